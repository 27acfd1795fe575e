"""SwAV: predict the balanced assignment to prototypes of another view."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.models.modules.heads import SwaVProjectionHead, SwaVPrototypes
from lightly.models.utils import concat_all_gather
from lightly.utils.dist import rank, world_size
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, MethodWithHeads, Outputs


class SwAV(MethodWithHeads):
    """Swapping assignments between views.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `num_prototypes`, `temperature`, `sk_iters`, `sk_epsilon`,
    `queue_size` (0: none), `epoch_queue_starts`, `freeze_prototypes_epochs`.

    Source: arXiv 2006.09882; loss, head and prototypes from lightly. The queue holds the samples of all ranks, the
    same on each, and lies in the checkpoint; a rank takes its share of it into the assignment.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 2048,
        "proj_output_dim": 128,
        "num_prototypes": 3000,
        "temperature": 0.1,
        "sk_iters": 3,
        "sk_epsilon": 0.05,
        "queue_size": 65536,
        "epoch_queue_starts": 15,
        "freeze_prototypes_epochs": 1,
    }
    heads: ClassVar = ("projector", "prototypes")
    takes_small_crops: ClassVar = True
    queue: Tensor

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = SwaVProjectionHead(self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim)
        self.prototypes = SwaVPrototypes(kw.proj_output_dim, kw.num_prototypes)
        self.criterion = SwaVLoss(
            temperature=kw.temperature,
            sinkhorn_iterations=kw.sk_iters,
            sinkhorn_epsilon=kw.sk_epsilon,
            sinkhorn_gather_distributed=True,
        )
        self.register_buffer("queue", torch.zeros(self.num_large_crops, kw.queue_size, kw.proj_output_dim))

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: normalised projections (B, proj_output_dim), `p`: their logits (B, num_prototypes)."""
        z = F.normalize(self.projector(feats), dim=1)
        return {"z": z, "p": self.prototypes(z)}

    def _queue_logits(self) -> list[Tensor] | None:
        kw = self.cfg.method_kwargs
        if not kw.queue_size or self.current_epoch < kw.epoch_queue_starts:
            return None
        with torch.no_grad():
            return [self.prototypes(view[rank() :: world_size()]) for view in self.queue]

    @torch.no_grad()
    def _enqueue(self, projections: list[Tensor]) -> None:
        for i, z in enumerate(projections):
            fresh = concat_all_gather(z.detach()) if world_size() > 1 else z.detach()
            self.queue[i] = torch.cat([fresh.to(self.queue.dtype), self.queue[i]])[: self.queue.size(1)]

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The swapped prediction loss, and the classifier's loss."""
        self.prototypes.normalize()
        out = super().training_step(batch, batch_idx)
        large = self.num_large_crops
        loss = self.criterion(out["p"][:large], out["p"][large:], self._queue_logits()).squeeze()
        if self.cfg.method_kwargs.queue_size:
            self._enqueue(out["z"][:large])
        self.log_means({"train_swav_loss": loss})
        return loss + out["loss"]

    def on_after_backward(self) -> None:
        """Keep the prototypes still in the first epochs."""
        if self.current_epoch < self.cfg.method_kwargs.freeze_prototypes_epochs:
            for parameter in self.prototypes.parameters():
                parameter.grad = None
