"""SimCLR: find the other view of a sample among all views of a batch."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs


class SimCLR(MethodWithHeads):
    """A simple framework for contrastive learning.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `temperature`.

    Source: arXiv 2002.05709, equation 1; loss and head from lightly. With more than two views, the mean over all pairs.
    """

    METHOD_KWARGS: ClassVar = {"proj_hidden_dim": 2048, "proj_output_dim": 256, "temperature": 0.2}
    heads: ClassVar = ("projector",)
    takes_small_crops: ClassVar = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = SimCLRProjectionHead(
            self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim, batch_norm=False
        )
        self.criterion = NTXentLoss(temperature=kw.temperature, gather_distributed=True)

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections (B, proj_output_dim)."""
        return {"z": self.projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The contrastive loss over the views of all ranks, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        pairs = list(combinations(out["z"], 2))
        loss = sum(self.criterion(a, b) for a, b in pairs) / len(pairs)
        self.log_means({"train_nce_loss": loss})
        return loss + out["loss"]
