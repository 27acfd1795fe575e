"""The example for Ray gives the artefact of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rela_zoo
from rela_zoo.embeddings import embed, open_embeddings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_ray_hands_out_shards(tmp_path: Path, make_folder: Any) -> None:
    pytest.importorskip("ray", reason="Ray is no dependency: pip install 'ray[data]'")
    make_folder(tmp_path / "data", {"a": 20, "b": 13})
    root = str(Path(rela_zoo.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    call = [sys.executable, str(ROOT / "scripts" / "examples" / "ray_embed.py"), "cifar10-resnet20"]
    done = subprocess.run(
        [*call, str(tmp_path / "data"), str(tmp_path / "out"), "--shard-rows", "8"], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": path}, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one = embed("cifar10-resnet20", tmp_path / "data", tmp_path / "one", shard_rows=8, progress=False)
    assert open_embeddings(tmp_path / "out", verify="full").digest == one.digest
