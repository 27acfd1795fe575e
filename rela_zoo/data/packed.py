"""Tensors of a batch as one: what a worker hands over in shared memory then takes one open file, not one a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """Several tensors of one dtype in one.

    Attributes:
        values: flat, of all tensors in order.
        shapes: of each.
    """

    values: Tensor
    shapes: tuple[torch.Size, ...]


def pack(tensors: Sequence[Tensor]) -> Packed:
    """Tensors of any shapes and one dtype → one.

    Examples:
        >>> from rela_zoo.data.packed import pack, unpack
        >>> [one.shape for one in unpack(pack([torch.zeros(2, 3), torch.zeros(4)]))]
        [torch.Size([2, 3]), torch.Size([4])]
    """
    flat = torch.cat([one.reshape(-1) for one in tensors]) if tensors else torch.empty(0)
    return Packed(flat, tuple(one.shape for one in tensors))


def unpack(packed: Packed) -> list[Tensor]:
    """The tensors again, as views of the one."""
    pieces = packed.values.split([shape.numel() for shape in packed.shapes]) if packed.shapes else ()
    return [piece.view(shape) for piece, shape in zip(pieces, packed.shapes, strict=True)]
