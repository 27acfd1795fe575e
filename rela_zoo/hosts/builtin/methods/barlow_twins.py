"""Barlow Twins: the views' features correlate dimension by dimension, and not across dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs


class BarlowTwins(MethodWithHeads):
    """Redundancy reduction.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `lamb` (weight of the off-diagonal), `scale_loss`.

    Source: arXiv 2103.03230, equation 1; loss and head from lightly.
    """

    METHOD_KWARGS: ClassVar = {"proj_hidden_dim": 2048, "proj_output_dim": 2048, "lamb": 0.0051, "scale_loss": 0.024}
    heads: ClassVar = ("projector",)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = BarlowTwinsProjectionHead(self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim)
        self.criterion = BarlowTwinsLoss(lambda_param=kw.lamb, gather_distributed=True)

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections (B, proj_output_dim)."""
        return {"z": self.projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The scaled loss of the cross-correlation, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        loss = self.cfg.method_kwargs.scale_loss * self.criterion(*out["z"])
        self.log_means({"train_barlow_loss": loss})
        return loss + out["loss"]
