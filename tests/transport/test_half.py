"""Transports of half the size: exact to three digits, read by the same call; and shortened to leading components."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rela_zoo.errors import TransportError
from rela_zoo.transport import PriorTransport, Side, TargetTransport, fit_transport

ROWS = torch.randn(200, 32, generator=torch.Generator().manual_seed(0)) * torch.linspace(5, 0.1, 32)


@pytest.fixture
def target() -> TargetTransport:
    return fit_transport(ROWS)


@pytest.fixture
def between() -> PriorTransport:
    weight = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    return PriorTransport(weight, torch.ones(16), Side("a"), Side("b"), "ridge", 0.1, 200, None)


def test_a_target_transport(target: TargetTransport, tmp_path: Path) -> None:
    target.save(tmp_path / "whole")
    target.save(tmp_path / "half", half=True)
    found = TargetTransport.load(tmp_path / "half")
    assert found.components.dtype == torch.float32
    assert torch.equal(found.scale, target.scale)
    assert torch.equal(found.components, target.components.half().float())
    torch.testing.assert_close(found(ROWS), target(ROWS), atol=0.02, rtol=0.01)
    saved = (tmp_path / "whole").stat().st_size - (tmp_path / "half").stat().st_size
    assert saved == pytest.approx(2 * 32 * 32, abs=16), "two bytes a component; the header's numbers are shorter"


def test_a_transport_between_priors(between: PriorTransport, tmp_path: Path) -> None:
    between.save(tmp_path / "half", half=True)
    found = PriorTransport.load(tmp_path / "half")
    assert torch.equal(found.bias, between.bias)
    torch.testing.assert_close(found(ROWS), between(ROWS), atol=0.05, rtol=0.01)


def test_values_beyond_half_precision_are_refused(between: PriorTransport, tmp_path: Path) -> None:
    large = replace(between, weight=between.weight * 1e6)
    with pytest.raises(TransportError, match="half precision"):
        large.save(tmp_path / "t", half=True)
    assert not (tmp_path / "t").exists()
    large.save(tmp_path / "t")


def test_leading_components_give_the_leading_targets(target: TargetTransport, tmp_path: Path) -> None:
    found = target.leading(5)
    assert (found.dim, found.max_dim) == (32, 5)
    assert torch.equal(found(ROWS), target(ROWS, dim=5))
    found.save(tmp_path / "t")
    assert TargetTransport.load(tmp_path / "t").stats == found.stats
    for count in (0, 33):
        with pytest.raises(TransportError):
            target.leading(count)
