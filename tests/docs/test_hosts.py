"""The examples of docs/hosts.md run as they are written."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")


def _blocks():
    """The Python blocks of the page: what both begin with, Lightning's, stable-pretraining's."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    return blocks


def _run(code, folder):
    (folder / "example.py").write_text(code, encoding="utf-8")
    # stable-pretraining hands its level down, and other tests have lowered it.
    settings = {"RELA_ZOO_HOME": str(folder / "home"), "SPT_CACHE_DIR": str(folder / "spt"), "LOGURU_LEVEL": "INFO"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder,
        env={**os.environ, **settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_lightning(tmp_path):
    first, example, _ = _blocks()
    done = _run(first + example, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    # A fifth of 1,797 digits in batches of 64: five steps in each of two epochs.
    assert "handed over at step 5 of 10" in done.stdout


@pytest.mark.spt
@pytest.mark.skipif(find_spec("stable_pretraining") is None, reason="stable-pretraining is not installed")
def test_stable_pretraining(tmp_path):
    first, _, example = _blocks()
    done = _run(first + example, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "handover to simclr at step 5" in done.stdout


def test_the_keys_named_are_keys():
    from rela_zoo.engine.config import rela_defaults

    named = set(re.findall(r"`(\w+): [\w.]+`", PAGE)) - {"weighted", "_target_"}
    assert named == {"head", "selection", "handover", "augmentations", "views_on"}
    assert named <= set(rela_defaults())
