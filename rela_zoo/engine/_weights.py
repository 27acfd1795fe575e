"""Weights of samples in the loss of an unmodified method: by the gradients that enter its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied sample by sample."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        (gradient,) = gradients
        shaped = weights.view(-1, *[1] * (gradient.ndim - 1)).to(gradient.dtype)
        return gradient * shaped, None


def scale_gradients(
    outputs: dict[str, Any], weights: Tensor | None, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Multiply the gradient that flows back through each output of a network, sample by sample.

    A loss that is a sum of terms, each with the gradient of one sample's outputs (BYOL, SimSiam, DINO, cross-entropy,
    …), so becomes the weighted sum, exactly, for every parameter in front of the outputs. In a loss whose terms mix
    samples (contrastive, covariance) it weighs what each sample contributes to the gradient. The loss's value stays as
    it is.

    Args:
        outputs: tensors by name; those with gradient and one row a sample are scaled, all others are left alone.
        weights: (B,) float, or None: then `outputs` comes back as it is.
        only: names of the outputs to scale; None for all.

    Returns:
        `outputs`, the scaled ones replaced.
    """
    if weights is None:
        return outputs
    scaled = dict(outputs)
    for name, value in outputs.items():
        wanted = only is None or name in only
        if wanted and isinstance(value, Tensor) and value.requires_grad and value.shape[:1] == weights.shape:
            scaled[name] = _Scaled.apply(value, weights)
    return scaled
