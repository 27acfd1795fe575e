"""What is installed from the wheel works without the checkout: registry, configurations, weights, command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made by the project's own build backend from a copy of the sources."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("rela_zoo", "hydra_plugins", "registry", "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    out = folder / "dist"
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.strip().splitlines()[-1]


def test_the_wheel_holds_the_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    entries = {f"rela_zoo/_registry/{path.name}" for path in (ROOT / "registry").glob("*.yaml")}
    measured = [path.relative_to(ROOT / "registry").as_posix() for path in (ROOT / "registry" / "zoo").rglob("*.*")]
    assert measured
    assert {f"rela_zoo/_registry/{name}" for name in measured} <= inside
    assert entries
    assert entries <= inside
    assert "rela_zoo/py.typed" in inside
    for folder in ("conf", "weights", "analysis/zoo"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rela_zoo" / folder).rglob("*.*")}
        assert files
        assert {name for name in files if "__pycache__" not in name} <= inside
    assert not any(name.startswith(("tests/", "scripts/", "registry/")) or "__pycache__" in name for name in inside)
    assert wheel.stat().st_size < 5_000_000


@pytest.mark.slow
def test_it_works_in_an_empty_environment(wheel, tmp_path):
    """Installed alone into a new folder that comes first on the path; the checkout is nowhere on it."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    code = f"""
import sys, pathlib
root, site = pathlib.Path({str(ROOT)!r}), pathlib.Path({str(target)!r})
sys.path[:] = [str(site)] + [p for p in sys.path if p and pathlib.Path(p).resolve() != root]
import rela_zoo
from rela_zoo._io import paths
assert pathlib.Path(rela_zoo.__file__).is_relative_to(site), rela_zoo.__file__
for folder in (paths.packaged_registry(), paths.packaged_weights(), paths.packaged_configs()):
    assert folder.is_dir() and folder.is_relative_to(site), folder
assert (paths.packaged_configs() / "rela" / "default.yaml").is_file()
assert len(rela_zoo.list_priors()) == {len(list((ROOT / "registry").glob("*.yaml")))}
import torch
prior = rela_zoo.load_prior("cifar10-resnet20", strict=True)
assert prior(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
from rela_zoo.cli import app
app(["validate"])
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RELA_ZOO_HOME")}
    environment["RELA_ZOO_HOME"] = str(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0 problems" in done.stdout
    # As `uvx --from WHEEL rela-zoo demo` starts it: the installed script, in a folder with nothing in it.
    script = target / "bin" / "rela-zoo"
    words = [sys.executable, str(script), "demo", "--epochs", "1", "--output", "demo"]
    environment["PYTHONPATH"] = str(target)
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo" / "figure.png").is_file()
    assert "training 4 of 4" in done.stdout
