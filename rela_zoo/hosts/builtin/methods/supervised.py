"""Training with labels: what self-supervised methods are compared with, and what ReLA can accelerate as well."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs, classification


class Supervised(MethodWithHeads):
    """Cross-entropy of a linear layer on the features, through the whole network; the mean over all views.

    Samples without label count for nothing. The online classifier, which no backbone follows, is trained beside it, as
    in every method.
    """

    heads: ClassVar = ("output",)
    takes_small_crops: ClassVar = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.output = nn.Linear(self.features_dim, self.num_classes)

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: logits (B, classes)."""
        return {"z": self.output(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The cross-entropy, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        each = [classification(logits, batch[2]) for logits in out["z"]]
        loss, accuracy = (torch.stack([one[key] for one in each]).mean() for key in ("loss", "acc1"))
        self.log_means({"train_supervised_loss": loss, "train_supervised_acc1": accuracy})
        return loss + out["loss"]
