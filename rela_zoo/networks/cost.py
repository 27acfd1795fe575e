"""What a network costs: its parameters, and the multiply-adds of one image, counted where it is run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Of a network.

    Attributes:
        parameters: numbers that were learnt; buffers, such as BatchNorm's, are none.
        macs: multiply-adds of convolutions, matrix products and attention for one image.
    """

    parameters: int
    macs: int


@torch.no_grad()
def count_cost(network: nn.Module, size: int) -> Cost:
    """Run a network on one black image (1, 3, S, S) and count.

    On the device of its parameters: on `meta` nothing is computed, and it takes milliseconds.

    Args:
        network: from images to features, in evaluation mode.
        size: S, side of its input in pixels.

    Examples:
        >>> from torch import nn
        >>> count_cost(nn.Conv2d(3, 8, 3, padding=1, bias=False), size=32)
        Cost(parameters=216, macs=221184)
    """
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size, device=device))
    # torch counts a multiplication and an addition as two.
    return Cost(sum(one.numel() for one in parameters), counter.get_total_flops() // 2)
