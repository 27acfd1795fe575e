"""Selection policies in an unmodified solo-learn: composed by Hydra, resumed, in two processes, of growing epochs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rela_zoo.selection.record import read_epoch, read_info

pytestmark = pytest.mark.solo

RELA = ("+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.75")


def _changes(solo, name: str, **more) -> dict:
    return {
        "name": name,
        "max_epochs": 4,
        "checkpoint": {"enabled": True, "dir": str(solo.folder / "selection" / name), "frequency": 1},
        **more,
    }


def _loss(solo, name: str) -> tuple[str, ...]:
    folder = solo.folder / "selection" / f"{name}-subsets"
    return (*RELA, f"rela.selection={{name: loss, momentum: 0.0, record: {folder}}}")


@pytest.fixture(scope="module")
def runs(solo):
    """All runs of this file in one process, and the resumption of the one that was killed."""
    growing = "{name: curriculum, phases: [{name: hard, until: 0.5}, {name: loss}], growth: 3}"
    workers = {"data": {**_data(solo), "num_workers": 1}}
    jobs = {
        "whole": solo.job("byol", *_loss(solo, "whole"), changes=_changes(solo, "whole")),
        "growing": solo.job("byol", *RELA, f"rela.selection={growing}", changes=_changes(solo, "growing", **workers)),
        "balanced": solo.job(
            "simclr", *RELA, "rela.selection={name: balanced, clusters: 4}", changes=_changes(solo, "balanced")
        ),
        "wrong": solo.job("byol", *RELA, "rela.selection=balancd", changes=_changes(solo, "wrong")),
    }
    done = dict(zip(jobs, solo.run(*jobs.values()), strict=True))
    killed = solo.job("byol", *_loss(solo, "killed"), changes=_changes(solo, "killed"), kill_at=(2, 0))
    solo.run(killed)
    last = sorted((solo.folder / "selection" / "killed").rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)[-1]
    resumed = solo.job(
        "byol", *_loss(solo, "killed"), f"+resume_from_checkpoint='{last}'", changes=_changes(solo, "killed")
    )
    (done["resumed"],) = solo.run(resumed)
    return done


def _data(solo) -> dict:
    return {
        "dataset": "custom",
        "train_path": str(solo.data / "train"),
        "val_path": None,
        "format": "image_folder",
    }


def _drawn(outcome, epoch: int, rank: int = 0) -> list[int]:
    return [i for b in outcome.rows("batch", rank) if b["epoch"] == epoch for i in b["indices"]]


def test_samples_drawn_by_losses(runs, solo):
    outcome = runs["whole"]
    assert outcome.ok, outcome.error
    assert "selection loss" in outcome.output
    folder = solo.folder / "selection" / "whole-subsets"
    assert read_info(folder)["epochs"] == 4
    for epoch in range(4):
        ids, weights = read_epoch(folder, epoch)
        assert len(ids) == len(set(ids)) == len(_drawn(outcome, epoch)) == 16
        assert (len(set(weights.tolist())) > 1) == (epoch > 0)


def test_a_killed_run_goes_on_with_the_same_subsets(runs, solo):
    whole, resumed = runs["whole"], runs["resumed"]
    assert resumed.ok, resumed.error
    wanted = [b for b in whole.batches if b["epoch"] >= 2]
    assert wanted
    for key in ("epoch", "batch", "step", "indices", "stage", "loss"):
        assert [b[key] for b in resumed.batches] == [b[key] for b in wanted], key
    assert resumed.end["parameters"] == whole.end["parameters"]


def test_epochs_grow_and_schedules_know(runs):
    outcome = runs["growing"]
    assert outcome.ok, outcome.error
    # 16 of 32 samples on average: 8, 13, 19 and 24, in batches of eight.
    assert [len(_drawn(outcome, epoch)) // 8 for epoch in range(4)] == [1, 1, 2, 3]
    assert outcome.end["handover_step"] == 4
    assert "from 8 to 24 in an epoch" in outcome.output


def test_a_policy_over_the_priors_space(runs):
    outcome = runs["balanced"]
    assert outcome.ok, outcome.error
    assert {b["stage"] for b in outcome.batches} == {"accelerated", "own"}
    assert [len(set(_drawn(outcome, epoch))) for epoch in range(4)] == [16] * 4


def test_a_misspelt_policy_is_named(runs):
    assert not runs["wrong"].ok
    assert "did you mean balanced" in runs["wrong"].error


def test_two_processes_draw_the_same(solo):
    folder = solo.folder / "selection" / "ddp-subsets"
    job = solo.job(
        "byol",
        "+rela=tiny-grid",
        "rela.data_ratio=0.5",
        "rela.handover=0.75",
        f"rela.selection={{name: loss, momentum: 0.0, record: {folder}}}",
        changes={"max_epochs": 4, "devices": "02", "strategy": "ddp", "sync_batchnorm": False},
    )
    job.arguments.append("optimizer.batch_size=4")
    (done,) = solo.run(job)
    assert done.ok, done.error + done.output[-3000:]
    index = {f"{path.parent.name}/{path.name}": i for i, path in enumerate(_sorted_images(solo))}
    for epoch in range(4):
        parts = [_drawn(done, epoch, rank) for rank in (0, 1)]
        assert len(parts[0]) == len(parts[1]) == 8
        assert not set(parts[0]) & set(parts[1])
        ids, _ = read_epoch(folder, epoch)
        # Recorded by rank 0; rank 1 has drawn the other half of the very same subset.
        assert {index[one] for one in ids} == {*parts[0], *parts[1]}
    ends = [done.rows("end", rank)[-1] for rank in (0, 1)]
    assert ends[0]["moved"] == ends[1]["moved"]
    assert json.loads((folder / "subsets.json").read_text())["selection"]["name"] == "loss"


def _sorted_images(solo) -> list[Path]:
    return sorted((solo.data / "train").rglob("*.png"))
