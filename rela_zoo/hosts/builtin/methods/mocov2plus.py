"""MoCo v2+: find the momentum network's view of a sample among a queue of earlier ones."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, Outputs
from rela_zoo.hosts.builtin.momentum import MomentumMethodWithHeads, momentum_twin


def _queue_loss(temperature: float, size: int, dim: int) -> NTXentLoss:
    criterion = NTXentLoss(temperature=temperature, memory_bank_size=(size, dim), gather_distributed=True)
    bank = criterion.memory_bank
    # lightly leaves the queue out of the state dict; a resumed run needs it.
    bank.register_buffer("bank", bank.bank, persistent=True)
    bank.register_buffer("bank_ptr", bank.bank_ptr, persistent=True)
    return criterion


class MoCoV2Plus(MomentumMethodWithHeads):
    """Momentum contrast, symmetric, with a queue for each direction.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `temperature`, `queue_size`.

    Source: arXiv 2003.04297 and, for the symmetric loss, arXiv 2011.10566; loss, queue and head from lightly.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 2048,
        "proj_output_dim": 256,
        "temperature": 0.2,
        "queue_size": 65536,
    }
    heads: ClassVar = ("projector",)
    momentum_heads: ClassVar = ("projector",)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        sizes = (self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim)
        self.projector = MoCoProjectionHead(*sizes)
        self.momentum_projector = momentum_twin(self.projector, lambda: MoCoProjectionHead(*sizes))
        self.criterion1 = _queue_loss(kw.temperature, kw.queue_size, kw.proj_output_dim)
        self.criterion2 = _queue_loss(kw.temperature, kw.queue_size, kw.proj_output_dim)

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: queries (B, proj_output_dim)."""
        return {"z": self.projector(feats)}

    def momentum_head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: keys (B, proj_output_dim)."""
        return {"z": self.momentum_projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The mean of the two directions' contrastive losses, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        (q1, q2), (k1, k2) = out["z"], out["momentum_z"]
        loss = (self.criterion1(q1, k2) + self.criterion2(q2, k1)) / 2.0
        self.log_means({"train_nce_loss": loss})
        return loss + out["loss"]
