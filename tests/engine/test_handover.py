"""The plateau rule: when the loss has stopped falling, whatever its scale and the length of the run."""

import numpy as np
import pytest
import torch

from rela_zoo.engine import PlateauHandover


def fired(losses):
    """The step after which the rule hands over; None if it never does."""
    rule = PlateauHandover(len(losses))
    for step, loss in enumerate(losses, 1):
        rho = float(rule.update(float(loss)))
        assert 0.0 <= rho <= 1.0
        if rule.handed_over:
            return step
    return None


def slow_oracle(losses):
    """The same rule as weighted means over all losses so far, without running sums."""
    total, first = len(losses), None
    for step in range(1, total + 1):
        means = []
        for share in (0.02, 0.1):
            kept = max(0.0, 1 - 1 / max(1.0, share * total))
            weights = kept ** np.arange(step)[::-1]
            means.append(float((weights * losses[:step]).sum() / weights.sum()))
        fast, slow = means
        if step == max(1, round(0.02 * total)):
            first = fast
        if step >= 0.1 * total and slow - fast <= 0.02 * max(first - fast, 0.0):
            return step
    return None


def falling(total, until):
    steps = np.arange(1, total + 1) / total
    return 1.0 - 0.7 * np.minimum(steps / until, 1.0)


@pytest.mark.parametrize("until", [0.15, 0.4, 0.6])
@pytest.mark.parametrize("total", [150, 1000])
def test_it_is_the_slow_oracles_step(total, until):
    noise = np.random.default_rng(0).normal(0, 0.002, total)
    losses = falling(total, until) + noise
    assert fired(losses) == slow_oracle(losses)


def test_it_fires_after_the_fall_and_at_the_same_fraction_of_every_run():
    fractions = [fired(falling(total, 0.3)) / total for total in (200, 1000, 5000)]
    assert all(0.3 < one < 0.75 for one in fractions)
    assert max(fractions) - min(fractions) < 0.02


def test_scale_and_offset_of_the_loss_change_nothing():
    losses = falling(500, 0.4)
    assert fired(losses) == fired(10 * losses + 3) == fired(losses / 100)


def test_a_steady_fall_is_followed_to_the_end_and_a_loss_that_never_falls_is_left_early():
    assert fired(np.linspace(1, 0, 400)) is None
    assert fired(np.linspace(0, 1, 400)) == 40


@pytest.mark.parametrize("stop", [1, 7, 60])
def test_it_goes_on_from_its_state(stop):
    losses = falling(100, 0.3)
    whole, first = PlateauHandover(100), PlateauHandover(100)
    for loss in losses[:stop]:
        first.update(loss)
    second = PlateauHandover(100)
    second.load_state_dict(first.state_dict())
    rhos = [float(whole.update(loss)) for loss in losses][stop:]
    assert [float(second.update(loss)) for loss in losses[stop:]] == rhos
    assert torch.equal(second.state_dict()["sums"], whole.state_dict()["sums"])


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least one step"):
        PlateauHandover(0)
