"""What a training costs and brings, watched from outside: a callback for `rela_zoo.hosts.builtin.train.train`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from rela_zoo.analysis.evaluate import extract_features, few_label_probe, knn_accuracy, linear_probe
from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.datasets import ImageDataset
from rela_zoo.data.decoded import decode_images
from rela_zoo.data.views import validation_transform

Judge = Callable[[nn.Module], dict[str, float]]
_CHUNK = 1000
# More images, or images for larger inputs, are decoded anew for each judgement.
_IN_MEMORY, _LARGE = 200_000, 96
# Of `Watch`, what outlives a stop between two epochs.
_KEPT = ("_samples", "_flops", "_stage", "curve", "losses", "handover_step", "steps_per_epoch", "step_flops")


def judged_epochs(epochs: int, times: int) -> set[int]:
    """After which epochs a student is judged: at most `times`, even on a logarithmic axis, the last among them."""
    return {round(float(epoch)) for epoch in np.geomspace(1, epochs, times)} if times > 1 else {epochs}


class HeldOut:
    """Judges a backbone by its features of un-augmented images: decoded and prepared once, where they fit into memory.

    Args:
        train, test: the data sets.
        size: of the images that the student sees, in pixels.
        mean, std: of the channels, as in training.
    """

    def __init__(self, train: ImageDataset, test: ImageDataset, size: int, mean: list[float], std: list[float]) -> None:
        whole = BatchViews([{"crop_size": size}], mean, std, seed=0)

        def prepared(images: ImageDataset) -> Dataset:
            if len(images) > _IN_MEMORY or size > _LARGE:
                return ImageDataset(images.source, transform=validation_transform(size, mean, std))
            pixels = decode_images(images.source).stacked("data.cache")
            parts = [whole(part, torch.arange(len(part)), 0)[0] for part in pixels.split(_CHUNK)]
            return TensorDataset(torch.cat(parts), torch.tensor([images.target(i) for i in range(len(images))]))

        self._train, self._test = prepared(train), prepared(test)

    def __call__(self, backbone: nn.Module) -> dict[str, float]:
        """Accuracies on the test images, fractions: linear probe, 20 nearest neighbours, 10 labels a class."""
        split = *extract_features(backbone, self._train), *extract_features(backbone, self._test)
        labels = min(10, int(np.bincount(split[1]).min()))
        return {
            "linear_accuracy": linear_probe(*split),
            "knn_accuracy": knn_accuracy(*split),
            "few_label_accuracy": few_label_probe(*split, per_class=labels).mean,
        }


class Watch(Callback):
    """Notes costs of training alone, and judges the backbone after some epochs.

    Operations are those of the steps as they are made: forward, backward and the momentum network's forward, a
    multiply-add as two, counted in the first step of each stage. Views, element-wise work and the optimiser are left
    out, as is usual, and so is the online classifier's validation.

    Args:
        judge: backbone → accuracies.
        epochs: after which it is called, from 1.
        accelerates: whether the run has an accelerated stage at all.
        spent: seconds that were spent before, on the prior; and operations.

    Attributes:
        curve: one dict a judgement: `epoch`, the costs so far, the accuracies.
        losses: mean of each epoch.
        handover_step: optimiser steps before the method's own stage; None if it never came, or there was no other.
        step_flops: of a step of each stage.
    """

    def __init__(self, judge: Judge, epochs: set[int], *, accelerates: bool, spent: tuple[float, int]) -> None:
        self._judge, self._epochs, self._accelerates = judge, epochs, accelerates
        self._wall, self._cpu, self._samples, self._flops = spent[0], 0.0, 0, spent[1]
        self._since: tuple[float, float] | None = None
        self._counter: FlopCounterMode | None = None
        self._stage = ""
        self._steps: list[torch.Tensor] = []
        self.curve: list[dict[str, Any]] = []
        self.losses: list[float] = []
        self.handover_step: int | None = None
        self.steps_per_epoch = 0
        self.step_flops: dict[str, int] = {}
        # From here on: what the run sets up, from decoding images to the policy's clusters, is paid by the user.
        self.start()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from; Lightning keeps it in checkpoints."""
        return {name: copy.copy(getattr(self, name)) for name in _KEPT} | {"spent": (self._wall, self._cpu)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in _KEPT:
            setattr(self, name, state_dict[name])
        self._wall, self._cpu = state_dict["spent"]

    def start(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stop it."""
        if self._since is not None:
            self._wall += time.perf_counter() - self._since[0]
            self._cpu += time.process_time() - self._since[1]
        self._since = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        # The online classifier's validation changes nothing, is not counted, and would take longer than an epoch on a
        # fifth of the data: once, at the end.
        trainer.check_val_every_n_epoch = trainer.max_epochs

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.stop()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.start()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        before = self._stage
        # The sampler knows, for it told the data set which views to make.
        own = not self._accelerates or trainer.train_dataloader.sampler.in_own_stage(batch_idx)
        self._stage = "own" if own else "accelerated"
        if self._accelerates and own and before != "own":
            self.handover_step = trainer.global_step
        if self._stage not in self.step_flops:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.step_flops[self._stage] = int(self._counter.get_total_flops())
            self._counter = None
        self._samples += len(batch[0])
        self._flops += self.step_flops[self._stage]
        self._steps.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.losses.append(float(torch.stack(self._steps).float().mean()))
        self.steps_per_epoch, self._steps = len(self._steps), []
        self.stop()
        if not math.isfinite(self.losses[-1]):
            raise ValueError("the loss is not finite: the run diverged; try a smaller optimizer.lr")
        epoch = trainer.current_epoch + 1
        if epoch in self._epochs:
            self.curve.append({"epoch": epoch, **self.costs, **self._judge(pl_module.backbone)})
        self.start()

    @property
    def costs(self) -> dict[str, float]:
        """What a user has paid so far: preparation, training, and the embedding of the data by the prior."""
        return {
            "samples_seen": self._samples,
            "wall_seconds": round(self._wall, 3),
            # Without the embedding; on a machine that does other work, too, the better measure of training.
            "cpu_seconds": round(self._cpu, 3),
            "flops": self._flops,
        }


class Deadline(Callback):
    """Ends a training after the epoch in which the time is up; the checkpoint of that epoch is written all the same.

    Args:
        until: by `time.monotonic()`.

    Attributes:
        reached: whether it has ended one.
    """

    def __init__(self, until: float) -> None:
        self._until, self.reached = until, False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if time.monotonic() > self._until and trainer.current_epoch + 1 < trainer.max_epochs:
            trainer.should_stop = self.reached = True
