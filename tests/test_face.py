"""The package's face: what it exports, that type checkers see it, and that it loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rela_zoo

HEAVY = (
    "torch", "timm", "lightning", "hydra", "omegaconf", "huggingface_hub", "numpy", "pyarrow", "sklearn", "matplotlib",
)  # fmt: skip
# Other libraries are left out: checking torch alone takes half a minute.
SETTINGS = "[mypy]\nfollow_imports = skip\nignore_missing_imports = true\n[mypy-rela_zoo.*]\nfollow_imports = silent\n"


def test_every_public_name_is_there() -> None:
    assert set(rela_zoo.__all__) == {*rela_zoo._PUBLIC, "__version__"}
    for name in rela_zoo.__all__:
        assert name in dir(rela_zoo)
        assert getattr(rela_zoo, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rela_zoo.nothing


def test_type_checkers_see_the_type_of_every_public_name(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    lines = ["import rela_zoo", *(f"reveal_type(rela_zoo.{name})" for name in rela_zoo.__all__), "rela_zoo.nothing"]
    snippet.write_text("\n".join(lines) + "\n")
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    root = Path(rela_zoo.__file__).parent.parent
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(snippet)], capture_output=True, text=True, cwd=root
    )
    types = re.findall('Revealed type is "(.*)"', done.stdout)
    assert len(types) == len(rela_zoo.__all__), done.stdout + done.stderr
    of = dict(zip(rela_zoo.__all__, types, strict=True))
    assert [name for name, found in of.items() if found == "Any"] == []
    assert of["load_prior"].endswith("-> rela_zoo.prior._load.Prior")
    assert of["embed"].endswith("-> rela_zoo.embeddings._table.EmbeddingTable")
    assert 'error: Module has no attribute "nothing"' in done.stdout


@pytest.mark.parametrize("module", ["rela_zoo", "rela_zoo.cli"])
def test_nothing_heavy_is_loaded_by_importing(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
