"""The loss and the handover rules, against plain-Python versions written from the paper's formulas."""

import math
import random

import numpy as np
import pytest
import torch

from rela_zoo.engine.handover import AdaptiveHandover, ConstantHandover
from rela_zoo.engine.objective import cosine_discrepancy


def test_cosine_discrepancy_against_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(17, 9)), rng.normal(size=(17, 9))
    slow = [1 - float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    fast = cosine_discrepancy(torch.tensor(a), torch.tensor(b))
    assert fast.shape == (17,)
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-6)


def test_cosine_discrepancy_ignores_length_and_spans_zero_to_two():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(cosine_discrepancy(x, 7.5 * x), torch.zeros(5), atol=1e-6)
    assert torch.allclose(cosine_discrepancy(x, -x), torch.full((5,), 2.0), atol=1e-6)


def test_half_precision_is_computed_in_float32():
    x = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    assert cosine_discrepancy(x.half(), x.half()).dtype == torch.float32


def _oracle(losses):
    slow, fast, rhos = 2.0, 1.0, []
    for loss in losses:
        rhos.append(math.exp(-max(slow - fast, 0.0)))
        fast = 0.999 * fast + 0.001 * loss
        slow = 0.99 * slow + 0.01 * fast
    return rhos, slow, fast


def test_adaptive_follows_the_formula():
    rng = random.Random(0)
    losses = [0.6 + 0.3 * math.exp(-i / 300) + 0.05 * rng.random() for i in range(3000)]
    rhos, slow, fast = _oracle(losses)
    handover, seen = AdaptiveHandover(), []
    first = None
    for step, loss in enumerate(losses):
        seen.append(float(handover.update(torch.tensor(loss))))
        if handover.handed_over and first is None:
            first = step
    np.testing.assert_allclose(seen, rhos, atol=1e-6)
    assert float(handover.slow) == pytest.approx(slow, abs=1e-6)
    assert float(handover.fast) == pytest.approx(fast, abs=1e-6)
    assert first == next(i for i, rho in enumerate(rhos) if rho >= 0.995)


def test_adaptive_starts_as_the_paper_says():
    handover = AdaptiveHandover()
    assert (float(handover.slow), float(handover.fast), float(handover.rho)) == (2.0, 1.0, 0.0)
    assert float(handover.update(0.5)) == pytest.approx(math.exp(-1))


def test_adaptive_hands_over_for_good():
    handover = AdaptiveHandover()
    while not handover.handed_over:
        handover.update(1.0)
    for _ in range(500):
        handover.update(-1000.0)  # drives fast far below slow
    assert float(handover.rho) < 0.5
    assert handover.handed_over


def test_adaptive_goes_on_from_its_state():
    losses = [0.9 - 0.0001 * i for i in range(900)]
    whole, first, second = AdaptiveHandover(), AdaptiveHandover(), AdaptiveHandover()
    for loss in losses:
        whole.update(loss)
    for loss in losses[:400]:
        first.update(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[400:]:
        second.update(loss)
    assert all(torch.equal(whole.state_dict()[key], second.state_dict()[key]) for key in whole.state_dict())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_update_makes_no_host_sync():
    handover, loss = AdaptiveHandover(), torch.tensor(0.5, device="cuda")
    handover.update(loss)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            handover.update(loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_constant_counts_steps():
    handover = ConstantHandover(3)
    flags = []
    for _ in range(5):
        handover.update(0.1)
        flags.append(handover.handed_over)
    assert flags == [False, False, True, True, True]
    assert ConstantHandover(0).handed_over
    never = ConstantHandover(None)
    for _ in range(100):
        never.update(0.1)
    assert not never.handed_over
    again = ConstantHandover(3)
    again.load_state_dict(handover.state_dict())
    assert again.handed_over
    with pytest.raises(ValueError, match="≥ 0"):
        ConstantHandover(-1)
