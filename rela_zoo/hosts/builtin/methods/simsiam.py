"""SimSiam: predict the projection of the other view, with a stopped gradient and no momentum network."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs


class SimSiam(MethodWithHeads):
    """Simple siamese networks.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `pred_hidden_dim`. The predictor's learning rate is constant.

    Source: arXiv 2011.10566, algorithm 1; loss and heads from lightly.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 2048,
        "proj_output_dim": 2048,
        "pred_hidden_dim": 512,
        "temperature": None,
    }
    heads: ClassVar = ("projector", "predictor")
    static_heads: ClassVar = ("predictor",)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = SimSiamProjectionHead(self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim)
        self.predictor = SimSiamPredictionHead(kw.proj_output_dim, kw.pred_hidden_dim, kw.proj_output_dim)
        self.criterion = NegativeCosineSimilarity()

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections, `p`: predictions, both (B, proj_output_dim)."""
        z = self.projector(feats)
        return {"z": z, "p": self.predictor(z)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The mean of the two directions' negative cosines, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        (z1, z2), (p1, p2) = out["z"], out["p"]
        loss = (self.criterion(p1, z2.detach()) + self.criterion(p2, z1.detach())) / 2.0
        self.log_means({"train_neg_cos_sim": loss})
        return loss + out["loss"]
