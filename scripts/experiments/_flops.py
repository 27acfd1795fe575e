"""Floating-point operations of a training step, counted on the network as published, before any short cut."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments._student import Student

_BATCH = 4


def step_flops(settings: dict[str, Any], target_dim: int | None, size: int) -> dict[str, int]:
    """Operations of one training step: forward, backward, the momentum network's forward; a multiply-add counts two.

    Counted for a few images and multiplied up; what doesn't grow linearly (SimCLR's matrix of similarities) is less
    than a thousandth. Element-wise work, the optimiser and augmentation are not counted, as is usual.

    Args:
        settings: of the run.
        target_dim: width of the targets; None without a prior.
        size: of the images in pixels.

    Returns:
        `own`, and `accelerated` with a prior.
    """
    with torch.random.fork_rng(devices=[]):
        student = Student(settings, target_dim, trim=False)
    views = [torch.rand(_BATCH, 3, size, size) for _ in range(2)]
    losses = {"own": lambda: student.own_loss(views, 0.0)}
    if student.rela_head is not None:
        targets = torch.rand(_BATCH, student.rela_head.out_features)
        losses["accelerated"] = lambda: student.accelerated_losses(views, targets).mean()
    flops = {}
    for name, loss in losses.items():
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        flops[name] = counter.get_total_flops() * settings["batch_size"] // _BATCH
    return flops
