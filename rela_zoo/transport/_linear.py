"""Affine maps of rows: apply, compose, invert. Pure functions on tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rela_zoo.errors import TransportError


class Affine(NamedTuple):
    """The map row → row · weight + bias.

    Attributes:
        weight: (D, K) floating.
        bias: (K,) of the same dtype, on the same device.
    """

    weight: Tensor
    bias: Tensor


def apply(mapping: Affine, rows: Tensor) -> Tensor:
    """Rows (B, D) → rows (B, K), in the dtype of the map.

    Raises:
        TransportError: rows of another width.
    """
    check_width(rows, mapping.weight.shape[0])
    return torch.addmm(mapping.bias, rows.to(mapping.weight.dtype), mapping.weight)


def compose(first: Affine, second: Affine) -> Affine:
    """The map that applies `first` (D → K), then `second` (K → M): D → M.

    Raises:
        TransportError: the first does not end where the second begins.
    """
    if first.weight.shape[1] != second.weight.shape[0]:
        raise TransportError(
            "two maps can't follow each other",
            expected=f"a second map from {first.weight.shape[1]} values",
            got=f"one from {second.weight.shape[0]}",
        )
    return Affine(first.weight @ second.weight, first.bias @ second.weight + second.bias)


def invert(mapping: Affine) -> Affine:
    """The way back, K → D: exact where D = K and the rank is full, else the pseudo-inverse (rows of smallest norm).

    A target transport knows more than its map, the mean of the rows: use its `inverse`.
    """
    back = torch.linalg.pinv(mapping.weight.double()).to(mapping.weight.dtype)
    return Affine(back, -(mapping.bias @ back))


def check_width(rows: Tensor, dim: int) -> None:
    """Refuse rows that are not (B, dim)."""
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise TransportError(
            "these rows are not those of the prior that the transport was fitted on",
            expected=f"shape (B, {dim})",
            got=f"shape {tuple(rows.shape)}",
            fix="fit a transport on these embeddings: `rela-zoo transport fit`",
        )
