"""A loss that is not finite ends the training with its step and stage, whichever rank and step it comes from."""

import pytest
import torch

from rela_zoo.engine import LossWatch
from rela_zoo.errors import TrainingError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("losses", "step", "stage"),
    [
        ([1.0, NAN, 2.0], 2, "the accelerated stage"),
        ([INF], 1, "the accelerated stage"),
        ([1.0, 1.0, 1.0, -INF, NAN], 4, "the stage of byol"),
    ],
)
def test_the_first_one_is_named(losses, step, stage):
    watch = LossWatch("byol")
    for made, loss in enumerate(losses):
        watch.note(torch.tensor(loss), step=made, accelerated=made < 3)
    with pytest.raises(TrainingError, match=f"not finite at step {step}, in {stage}"):
        watch.check()


def test_finite_losses_pass_and_nothing_noted_passes():
    watch = LossWatch("byol")
    watch.check()
    for loss in (0.0, -3.5, 1e30):
        watch.note(torch.tensor([loss, 1.0]), step=0, accelerated=False)
    watch.check()


def test_all_ranks_stop_at_what_one_of_them_noted(monkeypatch):
    from rela_zoo._io import ranks

    monkeypatch.setattr(ranks, "gather", lambda value: [value, 2 * 7 + 1])
    watch = LossWatch("byol", processes=2)
    watch.note(torch.tensor(1.0), step=9, accelerated=False)
    watch.check(everywhere=False)
    with pytest.raises(TrainingError, match="not finite at step 7, in the stage of byol"):
        watch.check()
