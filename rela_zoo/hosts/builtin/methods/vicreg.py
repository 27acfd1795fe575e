"""VICReg: equal views, spread-out samples, uncorrelated dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs


class VICReg(MethodWithHeads):
    """Variance-invariance-covariance regularisation.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `sim_loss_weight`, `var_loss_weight`, `cov_loss_weight`.

    Source: arXiv 2105.04906, equation 6; loss and head from lightly, whose variance term is half of solo-learn's.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 2048,
        "proj_output_dim": 2048,
        "sim_loss_weight": 25.0,
        "var_loss_weight": 25.0,
        "cov_loss_weight": 1.0,
    }
    heads: ClassVar = ("projector",)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = VICRegProjectionHead(self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim, num_layers=3)
        self.criterion = VICRegLoss(
            lambda_param=kw.sim_loss_weight,
            # lightly takes the mean over the two views, solo-learn the sum.
            mu_param=2.0 * kw.var_loss_weight,
            nu_param=kw.cov_loss_weight,
            gather_distributed=True,
        )

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections (B, proj_output_dim)."""
        return {"z": self.projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The weighted sum of the three terms, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        loss = self.criterion(*out["z"])
        self.log_means({"train_vicreg_loss": loss})
        return loss + out["loss"]
