"""DINO: match the momentum network's sharpened and centred distribution over prototypes."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, Outputs
from rela_zoo.hosts.builtin.momentum import MomentumMethodWithHeads, momentum_twin


class DINO(MomentumMethodWithHeads):
    """Self-distillation with no labels.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim` (the bottleneck), `num_prototypes`, `use_bn_in_head`,
    `norm_last_layer`, `clip_grad` (largest norm of one parameter's gradient; 0: none), `freeze_last_layer` (epochs),
    `student_temperature`, `teacher_temperature`, `warmup_teacher_temperature`, `warmup_teacher_temperature_epochs`.

    Source: arXiv 2104.14294, equation 3; loss and head from lightly.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 2048,
        "proj_output_dim": 256,
        "num_prototypes": 4096,
        "use_bn_in_head": False,
        "norm_last_layer": True,
        "clip_grad": 0,
        "freeze_last_layer": 1,
        "student_temperature": 0.1,
        "teacher_temperature": 0.07,
        "warmup_teacher_temperature": 0.04,
        "warmup_teacher_temperature_epochs": 0,
    }
    heads: ClassVar = ("head",)
    momentum_heads: ClassVar = ("head",)
    takes_small_crops: ClassVar = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.head = self._new_head()
        self.momentum_head = momentum_twin(self.head, self._new_head)
        self.criterion = DINOLoss(
            output_dim=kw.num_prototypes,
            warmup_teacher_temp=kw.warmup_teacher_temperature,
            teacher_temp=kw.teacher_temperature,
            warmup_teacher_temp_epochs=kw.warmup_teacher_temperature_epochs,
            student_temp=kw.student_temperature,
        )

    def _new_head(self) -> DINOProjectionHead:
        kw = self.cfg.method_kwargs
        return DINOProjectionHead(
            self.features_dim,
            kw.proj_hidden_dim,
            kw.proj_output_dim,
            kw.num_prototypes,
            batch_norm=kw.use_bn_in_head,
            freeze_last_layer=int(kw.freeze_last_layer),
            norm_last_layer=kw.norm_last_layer,
        )

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: logits of the prototypes (B, num_prototypes)."""
        return {"z": self.head(feats)}

    def momentum_head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: the momentum network's logits (B, num_prototypes)."""
        return {"z": self.momentum_head(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """Cross-entropy between the views' distributions, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        loss = self.criterion(out["momentum_z"], out["z"], epoch=self.current_epoch)
        self.log_means({"dino_loss": loss})
        return loss + out["loss"]

    def on_after_backward(self) -> None:
        """Clip the backbone's gradients, and keep the prototypes still in the first epochs."""
        limit = self.cfg.method_kwargs.clip_grad
        if limit:
            for parameter in self.backbone.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_((limit / (parameter.grad.norm() + 1e-6)).clamp(max=1.0))
        self.head.cancel_last_layer_gradients(self.current_epoch)
