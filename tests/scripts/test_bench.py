"""Every benchmark runs, small, as its first line says, and leaves its numbers with the circumstances beside them."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "bench"
ALL = runpy.run_path(str(FOLDER / "run.py"))["ALL"]
# They need a checkout of solo-learn.
_OF_SOLO_LEARN = {"bench_step", "bench_solo_epoch"}
SMALL = {f"bench_{name}": small for name, (_, small) in ALL.items() if f"bench_{name}" not in _OF_SOLO_LEARN}


def test_none_is_forgotten() -> None:
    assert {path.stem for path in FOLDER.glob("bench_*.py")} == {*SMALL, *_OF_SOLO_LEARN}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(FOLDER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *SMALL[name], "--out", str(tmp_path / "out.json")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RELA_ZOO_INDEX": "none"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {"cpu", "versions", "load_average_at_end"} <= found.pop("environment").keys()
    assert found


SCRIPTS = sorted(path for path in FOLDER.parents[0].rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(FOLDER.parent).as_posix())
def test_what_scripts_import_of_the_package_is_there(script: Path) -> None:
    """Of all scripts: some need data, a GPU or solo-learn, and are run by people only."""
    missing = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rela_zoo":
            module = importlib.import_module(str(node.module))
            for one in node.names:
                if not hasattr(module, one.name) and importlib.util.find_spec(f"{node.module}.{one.name}") is None:
                    missing.append(f"{node.module}.{one.name}")
    assert missing == []
