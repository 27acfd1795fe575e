"""The momentum network of a run that never leaves the accelerated stage is one that can be used."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.solo

STEPS = 4


@pytest.fixture(scope="module")
def weights(solo):
    """State dicts of BYOL at the end of the accelerated stage: as it is, and with a classifier on the teacher."""
    # Ten classes, for solo-learn asks the momentum classifier for its top five whatever their number.
    data = ["data.dataset=cifar10", "+limit_val_batches=0", "+rela=tiny-grid", "rela.data_ratio=0.34"]
    jobs, places = [], []
    for name, more in {"plain": [], "classifier": ["+momentum.classifier=True"]}.items():
        places.append(solo.folder / "checkpoints" / f"teacher-{name}")
        saving = {"enabled": True, "dir": str(places[-1]), "frequency": 1}
        changes = {"max_epochs": 2, "checkpoint": saving}
        jobs.append(solo.job("byol", *data, "rela.handover=1.0", *more, changes=changes, small_data_sets=True))
    outcomes = solo.run(*jobs)
    assert all(one.ok for one in outcomes), [one.error for one in outcomes]
    assert all({b["stage"] for b in one.batches} == {"accelerated"} for one in outcomes)
    assert all(len(one.batches) == STEPS for one in outcomes)
    return [
        torch.load(max(place.rglob("*.ckpt"), key=lambda one: one.stat().st_mtime), weights_only=True)["state_dict"]
        for place in places
    ]


def _pairs(state):
    """(name, student's, teacher's) of every tensor of the two backbones."""
    student = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    return [(name, value, state[f"momentum_backbone.{name}"]) for name, value in student.items()]


def test_its_batch_statistics_are_the_students(weights):
    found = [pair for pair in _pairs(weights[0]) if pair[0].rpartition(".")[2] in ("running_mean", "running_var")]
    assert len(found) == 40
    assert all(torch.equal(student, teacher) for _, student, teacher in found)
    assert any((teacher != teacher[0]).any() for _, _, teacher in found)
    counts = [teacher for name, _, teacher in _pairs(weights[0]) if name.endswith("num_batches_tracked")]
    # The student sees two views in each step.
    assert counts
    assert all(int(count) == 2 * STEPS for count in counts)


def test_its_weights_follow_behind(weights):
    moved = [not torch.equal(student, teacher) for name, student, teacher in _pairs(weights[0]) if "conv" in name]
    assert moved
    assert all(moved)


def test_one_that_sees_the_batches_itself_keeps_its_own(weights):
    found = [pair for pair in _pairs(weights[1]) if pair[0].endswith("running_mean")]
    assert not any(torch.equal(student, teacher) for _, student, teacher in found[1:])
    assert any((teacher != 0).any() for _, _, teacher in found)
