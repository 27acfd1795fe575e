"""Stages are sized by the steps that are really made; what can't be is refused or said when training is set up."""

import numpy as np
import pytest
import torch

from rela_zoo import Accelerator, RunShape
from rela_zoo.errors import ConfigError, TrainingError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def _made(run, **rela):
    section = {"prior": "cifar10-resnet20", "data_ratio": 0.5, **rela}
    return Accelerator(PIXELS, features_dim=8, run=run, rela=section)


def _loop(accelerator, run, epochs, batches):
    """Stages of the steps of a plain loop; ends where the run says so."""
    stages = []
    for epoch in range(epochs):
        loader = [(torch.arange(run.batch_size), torch.randn(run.batch_size, 8))] * batches
        for accelerated, (indices, features) in accelerator.batches(loader, epoch):
            if accelerated:
                accelerator.loss([features], indices)
            stages.append(accelerated)
            if len(stages) == run.max_steps:
                return stages
    return stages


@pytest.mark.parametrize("at", ["epoch", "step"])
def test_a_fraction_that_rounds_to_nothing_is_refused(at):
    run = RunShape(batch_size=20, epochs=1)  # one step in all
    with pytest.raises(ConfigError, match=rf"rela.handover: expected at least one whole {at}") as caught:
        _made(run, handover=0.5, handover_at=at)
    assert ("handover_at=step" in str(caught.value)) == (at == "epoch")


def test_it_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path))
    with pytest.raises(ConfigError):
        _made(RunShape(batch_size=4, epochs=3), handover=0.3)
    assert not (tmp_path / "artefacts").exists()


def test_a_trial_run_gets_a_step_of_the_accelerated_stage():
    run = RunShape(batch_size=4, epochs=1, max_steps=1, limit_batches=1, trial=True)
    assert _loop(_made(run, handover=0.5), run, 1, 1) == [True]


def test_the_end_by_steps_counts():
    # Five steps an epoch; it ends within the second epoch.
    run = RunShape(batch_size=4, epochs=10, max_steps=8)
    assert _loop(_made(run, handover=0.5), run, 10, 5) == [True] * 5 + [False] * 3
    run = RunShape(batch_size=4, epochs=10, max_steps=8)
    assert _loop(_made(run, handover=0.25, handover_at="step"), run, 10, 5) == [True] * 3 + [False] * 5
    run = RunShape(batch_size=4, max_steps=10)
    assert _loop(_made(run, handover=0.5), run, 10, 5) == [True] * 5 + [False] * 5


def test_without_such_an_end_nothing_changes():
    run = RunShape(batch_size=4, epochs=4)
    accelerator = _made(run, handover=0.5)
    assert _loop(accelerator, run, 4, 5) == [True] * 10 + [False] * 10
    assert accelerator.steps_by_stage(20) == (10, 10)
    assert accelerator.steps_by_stage(7) == (7, 0)


def test_an_adaptive_rule_that_cannot_fire_is_said(said):
    _made(RunShape(batch_size=4, epochs=105))  # 525 steps
    assert "can't fire in the 525 optimiser steps" in str(said)
    said.clear()
    _made(RunShape(batch_size=4, epochs=200))
    assert "only if the accelerated loss levels off above about 0.88" in str(said)
    said.clear()
    for settings in ({"epochs": 700}, {"epochs": 1, "trial": True}, {}):
        _made(RunShape(batch_size=4, **settings))
    _made(RunShape(batch_size=4, epochs=2), handover=1.0)
    assert "handover" not in str(said)


def test_the_banner_counts_what_is_trained_on():
    assert "20 in each epoch, drawn afresh\n" in _made(RunShape(batch_size=4, epochs=2), handover=0.5).banner()
    for run, trained in (
        (RunShape(batch_size=8, epochs=2), 16),
        (RunShape(batch_size=3, epochs=2, rank=0, world_size=2), 18),
        (RunShape(batch_size=4, epochs=2, limit_batches=2), 8),
        (RunShape(batch_size=4, epochs=2, limit_batches=0.5), 8),
    ):
        told = _made(run, handover=0.5).banner()
        assert f"{trained} in each epoch, drawn afresh (whole batches of the 20 drawn)" in told


@pytest.mark.parametrize(("batches", "found_at"), [(5, "end"), (60, "read")])
def test_a_plain_loop_ends_at_a_loss_that_is_not_finite(batches, found_at):
    run = RunShape(batch_size=4, epochs=2, read_every=10)
    accelerator = _made(run, handover=1.0)
    bad = torch.full((4, 8), float("nan"))
    seen = []

    def train():
        for number, (_, indices) in enumerate(accelerator.batches([torch.arange(4)] * batches, 0)):
            accelerator.loss([bad if number == 2 else torch.randn(4, 8)], indices)
            seen.append(number)

    with pytest.raises(TrainingError, match="not finite at step 3, in the accelerated stage"):
        train()
    assert len(seen) == (5 if found_at == "end" else 10)


def test_the_banner_says_when_the_adaptive_rule_fires():
    assert "never in its 525 steps" in _made(RunShape(batch_size=4, epochs=105)).banner()
    assert "between step 527 and about 3088 of 3500" in _made(RunShape(batch_size=4, epochs=700)).banner()
    assert "between step" not in _made(RunShape(batch_size=4, epochs=4), handover=0.5).banner()
