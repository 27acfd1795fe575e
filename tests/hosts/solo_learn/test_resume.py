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
    for key in ("epoch", "batch", "step", "indices", "pixels", "stage", "own_epoch", "loss"):
        assert [b[key] for b in resumed.batches] == [b[key] for b in wanted], key
    assert resumed.end["handover_step"] == undisturbed.end["handover_step"] == 4
    assert resumed.end["averages"] == undisturbed.end["averages"]
    assert resumed.end["parameters"] == undisturbed.end["parameters"]


@pytest.fixture(scope="module")
def runs(solo):
    """All runs of this file: four undisturbed or killed ones first, then what resumes from their checkpoints."""
    adaptive = RELA[:2]
    changes = {
        name: _changes(solo, name, workers)
        for name, workers in {
            "undisturbed": 0,
            "adaptive": 0,
            "plain": 0,
            "accelerated stage": 0,
            "own stage": 1,
            "adaptive killed": 0,
        }.items()
    }
    changes["plain"]["max_epochs"] = 1
    changes["auto"] = _changes(solo, "auto", 0, auto_resume={"enabled": True})
    first = {
        "undisturbed": solo.job("byol", *RELA, changes=changes["undisturbed"]),
        "adaptive": solo.job("simclr", *adaptive, changes=changes["adaptive"]),
        "plain": solo.job("simclr", changes=changes["plain"]),
    }
    killed = {
        "accelerated stage": solo.job("byol", *RELA, changes=changes["accelerated stage"], kill_at=(1, 0)),
        "own stage": solo.job("byol", *RELA, changes=changes["own stage"], kill_at=(3, 0)),
        "adaptive killed": solo.job("simclr", *adaptive, changes=changes["adaptive killed"], kill_at=(2, 0)),
        "auto": solo.job("byol", *RELA, changes=changes["auto"], kill_at=(1, 1)),
    }
    names = [*first, "accelerated stage"]
    outcomes = dict(zip(names, solo.run(*first.values(), killed.pop("accelerated stage")), strict=True))
    for name, job in killed.items():
        (outcomes[name],) = solo.run(job)

    def resume(method, name, *rela):
        # `+` for solo-learn reads the key without having it in its configurations.
        path = f"+resume_from_checkpoint='{_checkpoint(solo, name)}'"
        return solo.job(method, *rela, path, changes={**changes[name], "max_epochs": 4})

    # Neither a plain run nor one with another ratio may pick up the checkpoint of "auto"; the same run must.
    quick = {**changes["auto"], "checkpoint": {**changes["auto"]["checkpoint"], "enabled": False}}
    then = {
        "accelerated stage": resume("byol", "accelerated stage", *RELA),
        "own stage": resume("byol", "own stage", *RELA),
        "adaptive killed": resume("simclr", "adaptive killed", *adaptive),
        "plain": resume("simclr", "plain", *RELA),
        "auto, plain": solo.job("byol", changes=quick),
        "auto, other": solo.job("byol", RELA[0], "rela.data_ratio=0.75", RELA[2], changes=quick),
        "auto": solo.job("byol", *RELA, changes=changes["auto"]),
    }
    return outcomes, dict(zip(then, solo.run(*then.values()), strict=True))


@pytest.mark.parametrize("stage", KILLS)
def test_after_a_kill_by_resume_from_checkpoint(runs, stage):
    before, after = runs
    assert not before[stage].ok
    assert len(before[stage].batches) == 2 * KILLS[stage][0] + 1
    _same(after[stage], before["undisturbed"], KILLS[stage][0])


def test_after_a_kill_by_auto_resumer(runs):
    before, after = runs
    assert not before["auto"].ok
    assert "Resuming from previous checkpoint" in after["auto"].output
    _same(after["auto"], before["undisturbed"], 1)


@pytest.mark.parametrize("other", ["auto, plain", "auto, other"])
def test_auto_resumer_never_takes_a_checkpoint_of_another_rela(runs, other):
    outcome = runs[1][other]
    assert outcome.ok, outcome.error
    assert outcome.batches[0]["epoch"] == 0
    assert "Resuming" not in outcome.output


def test_adaptive_averages_survive(runs):
    before, after = runs
    assert not before["adaptive killed"].ok
    resumed, whole = after["adaptive killed"], before["adaptive"]
    assert resumed.ok, resumed.error
    assert resumed.end["averages"] == whole.end["averages"]
    assert 0 < resumed.end["averages"]["rho"] < 1
    assert resumed.end["parameters"] == whole.end["parameters"]


def test_a_checkpoint_of_a_plain_run_is_refused(runs):
    before, after = runs
    assert before["plain"].ok, before["plain"].error
    assert not after["plain"].ok
    assert "without rela" in after["plain"].error
