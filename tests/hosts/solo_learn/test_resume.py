"""Killed in either stage and resumed, a run goes on as if nothing had happened: subsets, stages, losses, averages."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.solo

# Epochs 0 and 1 are accelerated, 2 and 3 the method's own; two batches an epoch; a checkpoint after each epoch.
RELA = ("+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.5")
KILLS = {"accelerated stage": (1, 0), "own stage": (3, 0)}


def _changes(solo, name: str, workers: int, **more) -> dict:
    return {
        "name": name,
        "max_epochs": 4,
        "checkpoint": {"enabled": True, "dir": str(solo.folder / "checkpoints" / name), "frequency": 1},
        "data": {
            "dataset": "custom",
            "train_path": str(solo.data / "train"),
            "val_path": None,
            "format": "image_folder",
            "num_workers": workers,
        },
        **more,
    }


def _checkpoint(solo, name: str) -> Path:
    found = sorted((solo.folder / "checkpoints" / name).rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    assert found, f"no checkpoint of {name}"
    return found[-1]


def _same(resumed, undisturbed, first_epoch: int) -> None:
    assert resumed.ok, resumed.error
    assert undisturbed.ok, undisturbed.error
    wanted = [b for b in undisturbed.batches if b["epoch"] >= first_epoch]
    for key in ("epoch", "batch", "step", "indexes", "pixels", "stage", "own_epoch", "loss"):
        assert [b[key] for b in resumed.batches] == [b[key] for b in wanted], key
    assert resumed.end["handover_step"] == undisturbed.end["handover_step"] == 4
    assert resumed.end["averages"] == undisturbed.end["averages"]
    assert resumed.end["parameters"] == undisturbed.end["parameters"]


@pytest.fixture(scope="module")
def undisturbed(solo):
    return solo.run(solo.job("byol", *RELA, changes=_changes(solo, "undisturbed", 0)))[0]


@pytest.mark.parametrize("stage", KILLS)
def test_after_a_kill_by_resume_from_checkpoint(solo, undisturbed, stage):
    name, workers = f"killed-{KILLS[stage][0]}", KILLS[stage][0] // 2
    changes = _changes(solo, name, workers)
    (killed,) = solo.run(solo.job("byol", *RELA, changes=changes, kill_at=KILLS[stage]))
    assert not killed.ok
    assert len(killed.batches) == 2 * KILLS[stage][0] + 1
    # `+` for solo-learn reads the key without having it in its configurations.
    path = f"+resume_from_checkpoint='{_checkpoint(solo, name)}'"
    (resumed,) = solo.run(solo.job("byol", *RELA, path, changes=changes))
    _same(resumed, undisturbed, KILLS[stage][0])


def test_after_a_kill_by_auto_resumer_but_never_across_rela(solo, undisturbed):
    changes = _changes(solo, "auto", 0, auto_resume={"enabled": True})
    (killed,) = solo.run(solo.job("byol", *RELA, changes=changes, kill_at=(1, 1)))
    assert not killed.ok
    # A plain run and one with another ratio must not pick up that checkpoint; the same run must.
    other = [*RELA[:1], "rela.data_ratio=0.75", RELA[2]]
    quick = {**changes, "max_epochs": 4, "checkpoint": {**changes["checkpoint"], "enabled": False}}
    plain, another, resumed = solo.run(
        solo.job("byol", changes=quick), solo.job("byol", *other, changes=quick), solo.job("byol", *RELA, changes=changes)
    )
    assert plain.ok, plain.error
    assert another.ok, another.error
    assert plain.batches[0]["epoch"] == another.batches[0]["epoch"] == 0
    assert "Resuming from previous checkpoint" in resumed.output
    _same(resumed, undisturbed, 1)


def test_adaptive_averages_survive(solo):
    rela = ("+rela=tiny-grid", "rela.data_ratio=0.5")
    (whole,) = solo.run(solo.job("simclr", *rela, changes=_changes(solo, "adaptive-whole", 0)))
    changes = _changes(solo, "adaptive-killed", 0)
    (killed,) = solo.run(solo.job("simclr", *rela, changes=changes, kill_at=(2, 0)))
    path = f"+resume_from_checkpoint='{_checkpoint(solo, 'adaptive-killed')}'"
    (resumed,) = solo.run(solo.job("simclr", *rela, path, changes=changes))
    assert not killed.ok
    assert resumed.ok, resumed.error
    assert resumed.end["averages"] == whole.end["averages"]
    assert 0 < resumed.end["averages"]["rho"] < 1
    assert resumed.end["parameters"] == whole.end["parameters"]


def test_a_checkpoint_of_a_plain_run_is_refused(solo):
    changes = _changes(solo, "plain", 0, max_epochs=1)
    (plain,) = solo.run(solo.job("simclr", changes=changes))
    assert plain.ok, plain.error
    path = f"+resume_from_checkpoint='{_checkpoint(solo, 'plain')}'"
    (resumed,) = solo.run(solo.job("simclr", *RELA, path, changes={**changes, "max_epochs": 2}))
    assert not resumed.ok
    assert "without rela" in resumed.error
