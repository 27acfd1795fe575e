"""Affine maps against plain products."""

from __future__ import annotations

import pytest
import torch

from rela_zoo.errors import TransportError
from rela_zoo.transport import Affine, apply, compose, invert


def random_map(inputs: int, outputs: int, seed: int) -> Affine:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(inputs, outputs, dtype=torch.float64, generator=generator)
    return Affine(weight, torch.randn(outputs, dtype=torch.float64, generator=generator))


ROWS = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def test_apply() -> None:
    mapping = random_map(5, 3, 0)
    expected = [
        [sum(row[d] * mapping.weight[d, k] for d in range(5)) + mapping.bias[k] for k in range(3)] for row in ROWS
    ]
    torch.testing.assert_close(apply(mapping, ROWS), torch.tensor(expected, dtype=torch.float64))


def test_compose_is_one_after_the_other() -> None:
    first, second = random_map(5, 3, 1), random_map(3, 4, 2)
    torch.testing.assert_close(apply(compose(first, second), ROWS), apply(second, apply(first, ROWS)))


def test_invert_is_the_way_back() -> None:
    mapping = random_map(5, 5, 3)
    torch.testing.assert_close(apply(invert(mapping), apply(mapping, ROWS)), ROWS)
    wide = random_map(5, 8, 4)
    torch.testing.assert_close(apply(invert(wide), apply(wide, ROWS)), ROWS)


def test_what_does_not_fit() -> None:
    with pytest.raises(TransportError, match="not those of the prior"):
        apply(random_map(4, 3, 0), ROWS)
    with pytest.raises(TransportError, match="can't follow"):
        compose(random_map(5, 3, 0), random_map(4, 3, 0))
