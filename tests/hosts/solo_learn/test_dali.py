"""DALI's CPU pipeline in an unmodified solo-learn: targets joined by encoded index, subsets made in the reader."""

from __future__ import annotations

import importlib.util
import math

import pytest

pytestmark = [
    pytest.mark.solo,
    pytest.mark.skipif(importlib.util.find_spec("nvidia.dali") is None, reason="nvidia-dali is not installed")
    if importlib.util.find_spec("nvidia")
    else pytest.mark.skip(reason="nvidia-dali is not installed"),
]

_DALI = ["data.format=dali", "+dali.device=cpu", "data.num_workers=1"]
ENCODED = "+dali.encode_indexes_into_labels=True"
RELA = ["+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.5"]


@pytest.fixture(scope="module")
def outcomes(solo):
    # DALI has no equalisation, and its blur needs larger images.
    view = {**solo.view, "gaussian_blur": {"prob": 0.0}}
    crops = {"augmentations": [{**view, "num_crops": 2}]}
    multi = {"augmentations": [{**view, "num_crops": 2}, {**view, "crop_size": 16, "num_crops": 2}]}
    # Under DALI solo-learn does not start without validation data.
    dali = [*_DALI, f"data.val_path={solo.data / 'val'}", "+limit_val_batches=0"]
    jobs = {
        "bare": solo.job("byol", *dali, changes=crops),
        "encoded": solo.job("byol", *dali, ENCODED, *RELA, changes=crops, check_targets=True),
        "multi-crop": solo.job("simclr", *dali, ENCODED, *RELA, changes=multi),
        "fraction": solo.job(
            "simclr",
            *dali,
            ENCODED,
            *RELA,
            "+data.fraction=0.75",
            "rela.data_ratio=1.0",
            changes=crops,
            check_targets=True,
        ),
        "not encoded": solo.job("byol", *dali, *RELA, changes=crops),
        "at step": solo.job("byol", *dali, ENCODED, *RELA, "rela.handover_at=step", changes=crops),
    }
    return dict(zip(jobs, solo.run(*jobs.values()), strict=True))


@pytest.mark.parametrize(("name", "size"), [("encoded", 16), ("multi-crop", 16), ("fraction", 24)])
def test_both_stages_over_fresh_subsets(outcomes, name, size):
    outcome = outcomes[name]
    assert outcome.ok, outcome.error
    per_epoch = size // 8
    assert [b["stage"] for b in outcome.batches] == ["accelerated"] * per_epoch + ["own"] * per_epoch
    assert all(math.isfinite(b["loss"]) for b in outcome.batches)
    epochs = [[i for b in outcome.batches if b["epoch"] == e for i in b["indices"]] for e in (0, 1)]
    assert all(len(epoch) == len(set(epoch)) == size for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert outcome.start["steps"] == 2 * per_epoch


@pytest.mark.parametrize("name", ["encoded", "fraction"])
def test_targets_belong_to_the_images(outcomes, name):
    outcome = outcomes[name]
    (found,) = outcome.rows("targets")
    assert found["worst"] > 0.9999
    # What DALI read is what the index says: the label it gives is that of the file's folder.
    files = outcome.rows("files")[0]["files"]
    for batch in outcome.batches:
        assert [int("/dog/" in files[i]) for i in batch["indices"]] == batch["labels"]


def test_small_crops_come_with_the_methods_own_stage(outcomes):
    assert [b["views"] for b in outcomes["multi-crop"].batches] == [2, 2, 4, 4]


@pytest.mark.parametrize(
    ("name", "key"), [("not encoded", "dali.encode_indexes_into_labels"), ("at step", "rela.handover_at")]
)
def test_what_cannot_be_joined_is_refused(outcomes, name, key):
    assert not outcomes[name].ok
    assert key in outcomes[name].error


def test_without_rela_it_is_solo_learns_own(outcomes):
    assert outcomes["bare"].ok, outcomes["bare"].error
    assert len(outcomes["bare"].batches) == 8
