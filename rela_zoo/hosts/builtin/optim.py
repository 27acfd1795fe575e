"""Optimisers, parameter groups and learning-rate schedules, with the meaning that solo-learn gives their keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling on SGD with momentum.

    lightly's LARS has neither `clip_lr` nor `exclude_bias_n_norm`, on which solo-learn's configurations rely.

    Args:
        params: parameters or groups of them.
        lr: learning rate, ≥ 0.
        momentum: in [0, 1).
        weight_decay: L2 penalty, ≥ 0.
        eta: trust coefficient.
        eps: keeps the quotient finite.
        clip_lr: never let the adaptive rate exceed `lr` (this is LARC).
        exclude_bias_n_norm: one-dimensional parameters get plain SGD, without weight decay.

    Source: You et al., Large batch training of convolutional networks (arXiv 1708.03888), equation 6.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        eps: float = 1e-8,
        clip_lr: bool = False,
        exclude_bias_n_norm: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "eps": eps,
            "clip_lr": clip_lr,
            "exclude_bias_n_norm": exclude_bias_n_norm,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if parameter.ndim > 1 or not group["exclude_bias_n_norm"]:
            size, slope = parameter.norm(), gradient.norm()
            trust = group["eta"] * size / (slope + group["weight_decay"] * size + group["eps"])
            if group["clip_lr"]:
                trust = (trust / max(group["lr"], 1e-20)).clamp(max=1.0)
            # On the device, for asking whether a norm is zero would wait for the GPU.
            usable = (size > 0) & (slope > 0)
            decayed = gradient.add(parameter, alpha=group["weight_decay"])
            gradient = torch.where(usable, decayed * trust, gradient)
        if group["momentum"]:
            state = self.state[parameter]
            if "momentum_buffer" in state:
                gradient = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
            else:
                gradient = state["momentum_buffer"] = gradient.clone()
        parameter.add_(gradient, alpha=-group["lr"])


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": torch.optim.SGD,
    "lars": LARS,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
SCHEDULERS = ("warmup_cosine", "step", "none")


def split_weight_decay(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Split each group: biases and norms, the parameters of at most one dimension, get no weight decay."""
    split: list[dict[str, Any]] = []
    for group in groups:
        rest = {key: value for key, value in group.items() if key != "params"}
        parameters = list(group["params"])
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        if matrices:
            split.append({**rest, "params": matrices})
        if vectors:
            name = {"name": f"{rest['name']}_no_decay"} if "name" in rest else {}
            split.append({**rest, **name, "weight_decay": 0.0, "params": vectors})
    return split


def warmup_cosine(step: int, base: float, *, warmup: float, total: float, start: float, end: float) -> float:
    """Learning rate at `step`: linear from `start` to `base`, then half a cosine down to `end`.

    Args:
        step: number of updates made so far, ≥ 0.
        base: the group's own rate.
        warmup: updates of the linear part; `base` is reached at `warmup`.
        total: updates of the whole training.
        start: rate of the first update, when there is a linear part.
        end: rate at `total`.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), equation 5, without restarts.
    """
    if step < warmup:
        return start + (base - start) * step / max(warmup - 1.0, 1.0) if step else start
    progress = min((step - warmup) / max(total - warmup, 1.0), 1.0)
    return end + 0.5 * (base - end) * (1.0 + math.cos(math.pi * progress))


def build_scheduler(
    optimizer: Optimizer,
    name: str,
    *,
    static_groups: Iterable[int],
    steps_per_epoch: float,
    max_epochs: int,
    interval: str,
    warmup_epochs: float,
    warmup_start_lr: float,
    min_lr: float,
    decay_epochs: Iterable[int],
) -> LambdaLR:
    """A schedule that is called once a step, and whose rate is a function of the number of steps alone.

    `interval: epoch` makes it a staircase of epochs instead of a schedule stepped by the loop, because checkpoints
    are written just before the loop's epoch-wise step and would lose it.

    Args:
        optimizer: its groups keep their relation to each other.
        name: `warmup_cosine`, or `step` (a tenth at each of `decay_epochs`).
        static_groups: positions of the groups whose rate never changes.
        steps_per_epoch: optimiser steps in an epoch.
        max_epochs: of the whole training.
        interval: `step` or `epoch`.
        warmup_epochs: length of the linear part.
        warmup_start_lr: its first rate.
        min_lr: the last rate.
        decay_epochs: of `step`.
    """
    decay, static = sorted(decay_epochs), set(static_groups)

    def factor(base: float) -> Callable[[int], float]:
        def at(step: int) -> float:
            epoch = math.floor(step / steps_per_epoch + 1e-9)
            if name == "step":
                return 0.1 ** sum(epoch >= boundary for boundary in decay)
            unit = 1.0 if interval == "epoch" else steps_per_epoch
            rate = warmup_cosine(
                epoch if interval == "epoch" else step,
                base,
                warmup=warmup_epochs * unit,
                total=max_epochs * unit,
                start=warmup_start_lr,
                end=min_lr,
            )
            return rate / base if base else 0.0

        return at

    def constant(step: int) -> float:
        return 1.0

    groups = enumerate(optimizer.param_groups)
    return LambdaLR(optimizer, [constant if i in static else factor(group["lr"]) for i, group in groups])
