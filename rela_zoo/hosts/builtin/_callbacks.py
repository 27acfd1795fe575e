"""Callbacks of the built-in host that decide what is trained on: chance, and ranks."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rela_zoo.engine import SubsetSampler
from rela_zoo.hosts.lightning import next_epoch


def seed_all(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators by a key."""
    words = np.random.SeedSequence(key).generate_state(1)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[0]))


class Chance(Callback):
    """Seeds the generators by (seed, epoch, rank) before each epoch's first step, so that resuming changes nothing.

    Not at the epoch's start: there a fresh run has yet to draw a seed for its workers, and a resumed one has not.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed."""
        if batch_idx == 0:
            seed_all(self.seed, 1, trainer.current_epoch, trainer.global_rank)


class Ranks(Callback):
    """Tells the sampler its rank, which is known only once the processes have found each other."""

    def __init__(self, sampler: SubsetSampler) -> None:
        self.sampler = sampler

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell it."""
        self.sampler.rank = trainer.global_rank

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell it the epoch, too."""
        # The first epoch's workers start before Lightning tells the sampler the epoch.
        self.sampler.set_epoch(next_epoch(checkpoint))
