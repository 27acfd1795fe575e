"""Targets are joined to samples by id, for every kind of data set of solo-learn; what can't be joined is refused."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from rela_zoo import embed

pytestmark = pytest.mark.solo


def _h5(solo):
    h5py = pytest.importorskip("h5py")
    path = solo.folder / "tiny.h5"
    with h5py.File(path, "w") as file:
        for image in sorted((solo.data / "train").rglob("*.png")):
            group = file.require_group(image.parent.name)
            group[image.name] = np.frombuffer(image.read_bytes(), dtype=np.uint8)
    return path


def _flat(solo):
    folder = solo.folder / "flat"
    folder.mkdir()
    for image in (solo.data / "train").rglob("*.png"):
        shutil.copy(image, folder / f"{image.parent.name}-{image.name}")
    return folder


KINDS = {
    "cifar10": 48,
    "cifar100": 48,
    "stl10": 48,
    "imagenet": 32,
    "imagenet100": 32,
    "imagenet in h5": 32,
    "custom": 32,
    "custom, fraction": 16,
    "custom without labels": 32,
    "custom without labels, fraction": 16,
}


@pytest.fixture(scope="module")
def outcomes(solo):
    flat, h5 = _flat(solo), _h5(solo)
    settings = {
        "cifar10": ["data.dataset=cifar10"],
        "cifar100": ["data.dataset=cifar100"],
        "stl10": ["data.dataset=stl10"],
        "imagenet": ["data.dataset=imagenet"],
        "imagenet100": ["data.dataset=imagenet100"],
        "imagenet in h5": ["data.dataset=imagenet", "data.format=h5", f"data.train_path={h5}"],
        "custom": [],
        "custom, fraction": ["+data.fraction=0.5"],
        "custom without labels": [f"data.train_path={flat}", "+data.no_labels=True"],
        "custom without labels, fraction": [f"data.train_path={flat}", "+data.no_labels=True", "+data.fraction=0.5"],
    }
    assert list(settings) == list(KINDS)
    jobs = [
        solo.job(
            "simclr",
            "+rela=tiny-grid",
            "rela.data_ratio=0.5",
            *overrides,
            "+limit_val_batches=0",
            changes={"max_epochs": 1},
            check_targets=True,
            small_data_sets=True,
        )
        for overrides in settings.values()
    ]
    return dict(zip(settings, solo.run(*jobs, timeout=600), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_belong_to_the_images(outcomes, kind):
    outcome = outcomes[kind]
    assert outcome.ok, outcome.error
    (found,) = outcome.rows("targets")
    assert found["samples"] == KINDS[kind]
    assert found["worst"] > 0.9999
    seen = [i for b in outcome.batches for i in b["indices"]]
    assert len(set(seen)) == len(seen) == KINDS[kind] // 2
    assert all(0 <= i < KINDS[kind] for i in seen)


@pytest.fixture(scope="module")
def given(solo):
    """Runs with embeddings made beforehand: right, of other files, of other pictures under the same names."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RELA_ZOO_HOME", str(solo.home / "rela"))
    train, forged = solo.data / "train", solo.folder / "forged"
    rng = np.random.default_rng(99)
    for image in train.rglob("*.png"):
        target = forged / image.relative_to(train)
        target.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "png")
        target.write_bytes(buffer.getvalue())
    for name, folder in {"right": train, "other": solo.data / "val", "forged": forged}.items():
        embed("tiny-grid", folder, solo.folder / f"rows-{name}", progress=False)
    patch.undo()

    def job(rows, *overrides):
        where = f"rela.embeddings={solo.folder / f'rows-{rows}'}"
        rela = ["+rela=tiny-grid", "rela.data_ratio=0.5", where]
        return solo.job("simclr", *rela, *overrides, changes={"max_epochs": 1}, check_targets=rows == "right")

    jobs = {
        "right": job("right", "+data.fraction=0.5"),
        "other": job("other"),
        "forged": job("forged"),
        "forged, unverified": job("forged", "rela.verify=0"),
    }
    return dict(zip(jobs, solo.run(*jobs.values()), strict=True))


def test_rows_of_the_whole_serve_a_shuffled_part(given):
    assert given["right"].ok, given["right"].error
    assert given["right"].rows("targets")[0]["worst"] > 0.9999


def test_rows_of_other_data_are_refused_with_counts_and_examples(given):
    error = given["other"].error
    assert not given["other"].ok
    assert not given["other"].ranks
    assert "rela.embeddings" in error
    assert "24" in error  # of the 32 samples, those whose name the other folder has not
    assert error.count(".png") >= 3


def test_rows_of_other_pictures_are_found_out_by_the_spot_check(given):
    assert not given["forged"].ok
    assert "of other pictures" in given["forged"].error
    assert given["forged, unverified"].ok, given["forged, unverified"].error


def test_missing_rows_are_made_by_workers_and_one_sees_how_far_they_are(solo):
    folder = solo.folder / "never-embedded"
    for image in (solo.data / "train").rglob("*.png"):
        (folder / image.parent.name).mkdir(parents=True, exist_ok=True)
        # Enough of them for processes to pay.
        for copy in range(5):
            shutil.copy(image, folder / image.parent.name / f"{copy}-{image.name}")
    overrides = [f"data.train_path={folder}", "+rela=tiny-grid", "rela.data_ratio=0.1"]
    job = solo.job("simclr", *overrides, changes={"max_epochs": 1}, watch_reading=True)
    (outcome,) = solo.run(job)
    assert outcome.ok, outcome.error
    assert outcome.read_by_workers == set(range(160))
    assert "embedding: 160/160" in outcome.output
