"""A process that may open 256 files, as a Mac and many clusters allow: many shards, large batches, workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DRIVER = Path(__file__).with_name("few_files_driver.py")
N = 320


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(N):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def run(photos: Path, work: Path, *extra: str) -> dict[str, int]:
    environment = {**os.environ, "RELA_ZOO_HOME": str(work / "home"), "RELA_ZOO_INDEX": "none"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(photos), str(work), *extra],
        env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    words = (line.split() for line in done.stdout.splitlines())
    return {one[0]: int(one[1]) for one in words if one and one[0] in ("shards", "opened", "batches", "steps")}


@pytest.mark.timeout(450)
def test_more_shards_and_larger_batches_than_files_may_be_open(photos: Path, tmp_path: Path) -> None:
    said = run(photos, tmp_path)
    assert said["shards"] == N
    assert max(said["opened"], said["batches"]) < 200, "and what is kept open leaves room for others"


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_a_training_with_workers(photos: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path, "train")["steps"] > 0
