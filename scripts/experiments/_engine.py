"""The training loop: the same on CPU and CUDA, without a word between host and device inside an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments._augment import Augmentation
from experiments._data import Images
from experiments._student import Student
from experiments._subset import Draws
from rela_zoo.engine.objective import AdaptiveHandover

Settings = dict[str, Any]


@dataclass
class Progress:
    """What a run has cost and brought so far."""

    step: int = 0
    samples_seen: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all threads
    flops: int = 0
    handover_step: int | None = None
    losses: list[float] = field(default_factory=list)  # mean of each epoch
    stages: list[str] = field(default_factory=list)  # of each epoch
    steps_per_epoch: int = 0


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Linear warm-up over a fraction of the steps, then a cosine to 0; for step 0, 1, …, total − 1."""
    warm = round(warmup * total)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def momentum_tau(step: int, total: int, base: float) -> float:
    """From `base` to 1 along a cosine, as in BYOL."""
    return 1.0 - (1.0 - base) * (math.cos(math.pi * step / total) + 1) / 2


class Training:
    """A run under way.

    Args:
        settings: of the run.
        student: on the device.
        images: training images, on the device.
        targets: (N, k) float32 on the device, or None without a prior.
        subset: chooses each epoch's samples.
        augmentations: of the stages `accelerated` and `own`.
        flops: of a step of each stage.

    Raises:
        ValueError: if an epoch has less than one batch.
    """

    def __init__(
        self,
        settings: Settings,
        student: Student,
        images: Images,
        targets: Tensor | None,
        subset: Draws,
        augmentations: dict[str, Augmentation],
        flops: dict[str, int],
    ) -> None:
        self._settings, self._student, self._images, self._targets = settings, student, images, targets
        self._subset, self._augmentations, self._flops = subset, augmentations, flops
        self._device = images.pixels.device
        self.progress = Progress(steps_per_epoch=len(subset.draw(0).indices) // settings["batch_size"])
        if not self.progress.steps_per_epoch:
            raise ValueError(
                f"an epoch has {len(subset.draw(0).indices)} samples, less than one batch of {settings['batch_size']}; "
                "raise data_ratio or lower batch_size"
            )
        self._total = self.progress.steps_per_epoch * settings["epochs"]
        self._optimizer = build_optimizer(student, settings)
        self._adaptive = AdaptiveHandover()
        self._accelerated = targets is not None and settings["handover"] != 0.0
        if targets is not None and not self._accelerated:
            self.progress.handover_step = 0

    def train(self, after_epoch: Callable[[int], None]) -> Progress:
        """Train all epochs; `after_epoch` is called after each, and its time is not counted."""
        for epoch in range(self._settings["epochs"]):
            started, worked = time.perf_counter(), time.process_time()
            losses = self.epoch(epoch).tolist()
            self._subset.end_epoch()
            self.progress.wall_seconds += time.perf_counter() - started
            self.progress.cpu_seconds += time.process_time() - worked
            self._account(losses)
            self._hand_over(epoch, losses)
            after_epoch(epoch + 1)
        return self.progress

    def warm_up(self) -> float:
        """Make compilers and kernel searches do their work before the clock runs; the student stays as it is.

        Returns:
            Seconds it took.
        """
        started = time.perf_counter()
        state = {name: value.clone() for name, value in self._student.state_dict().items()}
        batch, size = self._settings["batch_size"], self._images.pixels.shape[-1]
        views = [torch.zeros(batch, 3, size, size, device=self._device) for _ in range(2)]
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        self._student.train()
        for accelerated in (True, False) if self._targets is not None else (False,):
            targets = self._targets[:batch] if accelerated else None
            for _ in range(2):
                self._loss(views, targets, None, 0)[0].backward()
        self._optimizer.zero_grad(set_to_none=True)
        self._student.load_state_dict(state)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - started

    def epoch(self, epoch: int) -> Tensor:
        """One epoch; returns the losses of its steps (steps,), still on the device."""
        batch = self._settings["batch_size"]
        drawn = self._subset.draw(epoch)
        order = drawn.indices.to(self._device)
        weights = None if drawn.weights is None else drawn.weights.to(self._device)
        losses = torch.zeros(self.progress.steps_per_epoch, device=self._device)
        self._student.train()
        for i in range(self.progress.steps_per_epoch):
            part = slice(i * batch, (i + 1) * batch)
            losses[i] = self._step(order[part], None if weights is None else weights[part], epoch)
        return losses

    def _step(self, indices: Tensor, weights: Tensor | None, epoch: int) -> Tensor:
        settings = self._settings
        views = self._augmentations[self.stage](self._images.pixels[indices])
        targets = self._targets[indices] if self._accelerated else None
        loss, each = self._loss(views, targets, weights, epoch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        rate = learning_rate(self.progress.step, self._total, settings["lr"], settings["warmup"])
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        if settings["tau"] is not None:
            self._student.update_momentum(momentum_tau(self.progress.step, self._total, settings["tau"]))
        self.progress.step += 1
        if each is not None:
            self._subset.observe(indices, each)
        return loss.detach()

    def _loss(
        self, views: list[Tensor], targets: Tensor | None, weights: Tensor | None, epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """The loss to go down, a scalar; and in the accelerated stage, where there are targets, that of each sample."""
        settings, student = self._settings, self._student
        with torch.autocast(self._device.type, torch.bfloat16, enabled=settings["precision"] == "bfloat16"):
            if targets is None:
                return student.own_loss(views, epoch / settings["epochs"], weights), None
            each = student.accelerated_losses(views, targets)
            return (each.mean() if weights is None else (each * weights).mean()), each.detach()

    @property
    def stage(self) -> str:
        """`accelerated` or `own`."""
        return "accelerated" if self._accelerated else "own"

    def _account(self, losses: list[float]) -> None:
        self.progress.samples_seen += len(losses) * self._settings["batch_size"]
        self.progress.flops += len(losses) * self._flops[self.stage]
        self.progress.losses.append(sum(losses) / len(losses))
        self.progress.stages.append(self.stage)
        if not math.isfinite(self.progress.losses[-1]):
            raise ValueError("the loss is not finite: the run diverged; try a smaller lr")

    def _hand_over(self, epoch: int, losses: list[float]) -> None:
        """Decide at the end of an epoch whether the next one is the method's own; there is no way back."""
        if not self._accelerated:
            return
        handover = self._settings["handover"]
        if handover == "adaptive":
            # The host has the epoch's losses now; the averages are the same as if fed step by step.
            for loss in losses:
                self._adaptive.update(loss)
            over = self._adaptive.handed_over
        else:
            over = epoch + 1 >= round(handover * self._settings["epochs"])
        if over and epoch + 1 < self._settings["epochs"]:
            self._accelerated = False
            self.progress.handover_step = self.progress.step


def build_optimizer(student: Student, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation layers are not decayed."""
    trained = [p for p in student.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings["lr"], fused=True)
