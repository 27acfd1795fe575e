"""What the built-in methods with a momentum network share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rela_zoo.hosts.builtin.base import BaseMethod, Batch, MethodWithHeads, Outputs, classification


def momentum_at(step: int, max_steps: int, base: float, final: float) -> float:
    """The momentum network's coefficient after `step` updates: half a cosine from `base` to `final`.

    Args:
        step: updates made so far, ≥ 0.
        max_steps: updates of the whole training, ≥ 1.
        base: first value, in [0, 1].
        final: value at `max_steps`, in [0, 1].

    Source: BYOL (arXiv 2006.07733), section 3.2, "τ".
    """
    return final - (final - base) * (math.cos(math.pi * min(step / max_steps, 1.0)) + 1.0) / 2.0


class MomentumUpdater:
    """Moves a momentum network after its online twin.

    Args:
        base_tau: coefficient at the start, in [0, 1].
        final_tau: coefficient at the end, in [base_tau, 1].
    """

    def __init__(self, base_tau: float = 0.996, final_tau: float = 1.0) -> None:
        self.base_tau, self.final_tau = base_tau, final_tau
        self.cur_tau = base_tau

    def update(self, online_net: nn.Module, momentum_net: nn.Module) -> None:
        """momentum ← tau · momentum + (1 − tau) · online, parameter by parameter."""
        averages, ours = list(momentum_net.parameters()), list(online_net.parameters())
        if ours and ours[0].device.type == "cuda":
            # All in a few kernels: a GPU takes longer to be told of each than to move it. Rounded otherwise, so a CPU,
            # which gains little by it, goes on giving the numbers of the runs that are on record.
            get_ema_multi_avg_fn(self.cur_tau)(averages, ours, 0)
            return
        from lightly.models.utils import update_momentum

        update_momentum(online_net, momentum_net, m=self.cur_tau)

    def update_tau(self, cur_step: int, max_steps: int) -> None:
        """Set the coefficient for the next update."""
        self.cur_tau = momentum_at(cur_step, max_steps, self.base_tau, self.final_tau)


def momentum_twin(online: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """A second network from `build` with the weights of `online`, which no gradient reaches."""
    twin = build()
    twin.load_state_dict(online.state_dict())
    return twin.requires_grad_(False)


class BaseMomentumMethod(BaseMethod):
    """A method with a momentum network: a twin of the backbone that follows by exponential moving average.

    Attributes:
        momentum_backbone: twin of `backbone`.
        momentum_classifier: linear classifier on the twin's features, or None.
        momentum_updater: does the averaging.
    """

    # The heads that have a twin, `momentum_<head>`.
    momentum_heads: ClassVar[tuple[str, ...]] = ()
    uses_momentum: ClassVar[bool] = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        momentum = self.cfg.momentum
        self.momentum_backbone = momentum_twin(self.backbone, lambda: self._new_backbone()[0])
        self.momentum_classifier: nn.Module | None = None
        if momentum.classifier:
            self.momentum_classifier = nn.Linear(self.features_dim, self.num_classes)
        self.momentum_updater = MomentumUpdater(momentum.base_tau, momentum.final_tau)
        self.last_step = 0

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        """Those of the base class, and the momentum classifier's."""
        groups = super().learnable_params
        if self.momentum_classifier is not None:
            groups.append(
                {
                    "name": "momentum_classifier",
                    "params": self.momentum_classifier.parameters(),
                    "lr": self.classifier_lr,
                    "weight_decay": 0,
                }
            )
        return groups

    @property
    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(online, momentum) pairs that move together."""
        heads = [(getattr(self, name), getattr(self, f"momentum_{name}")) for name in self.momentum_heads]
        return [(self.backbone, self.momentum_backbone), *heads]

    @torch.no_grad()
    def momentum_forward(self, X: Tensor) -> Outputs:
        """Images (B, 3, H, W) → `feats` of the momentum backbone; no gradients."""
        return {"feats": self.momentum_backbone(self._laid_out(X))}

    def _shared_step_momentum(self, X: Tensor, targets: Tensor) -> Outputs:
        out = self.momentum_forward(X)
        if self.momentum_classifier is not None:
            logits = self.momentum_classifier(out["feats"])
            out.update({"logits": logits, **classification(logits, targets)})
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """As in the base class; the large crops also go through the momentum network, as `momentum_…`."""
        outs = super().training_step(batch, batch_idx)
        _, views, targets = batch
        views = [views] if isinstance(views, Tensor) else views
        twins = [self._shared_step_momentum(view, targets) for view in views[: self.num_large_crops]]
        outs.update({f"momentum_{key}": [twin[key] for twin in twins] for key in twins[0]})
        if self.momentum_classifier is not None:
            for key in ("momentum_loss", "momentum_acc1", "momentum_acc5"):
                outs[key] = torch.stack(outs[key]).mean()
            names = {"loss": "class_loss", "acc1": "acc1", "acc5": "acc5"}
            self.log_means({f"train_momentum_{name}": outs[f"momentum_{key}"] for key, name in names.items()})
            outs["loss"] = outs["loss"] + outs["momentum_loss"]
        return outs

    def on_train_start(self) -> None:
        """Count steps from where training starts, which after a resumption is not zero."""
        self.last_step = self.trainer.global_step

    def momentum_schedule(self, step: int, total: int) -> tuple[int, int]:
        """Where the coefficient's schedule stands, as (step, length); a wrapper may let it begin anew."""
        return step, total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """As in the base class; and move the momentum networks, if this batch ended an optimiser step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        step = self.trainer.global_step
        if step > self.last_step:
            # A function of the step, so that a resumed run goes on with the very same coefficient.
            total = int(self.trainer.estimated_stepping_batches)
            self.momentum_updater.update_tau(*self.momentum_schedule(step - 1, total))
            for online, momentum in self.momentum_pairs:
                self.momentum_updater.update(online, momentum)
        self.last_step = step

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As in the base class, and the accuracy of the momentum classifier."""
        metrics = super().validation_step(batch, batch_idx)
        if self.momentum_classifier is not None:
            images, targets = batch
            out = self._shared_step_momentum(images, targets)
            more = {f"momentum_val_{key}": out[key] for key in ("loss", "acc1", "acc5")}
            self.log_dict(more, on_step=False, on_epoch=True, sync_dist=True, batch_size=targets.size(0))
            metrics.update(more)
        return metrics


class MomentumMethodWithHeads(MethodWithHeads, BaseMomentumMethod):
    """A momentum method whose heads see the features of every view; those in `momentum_heads` have twins."""

    def momentum_head_outputs(self, feats: Tensor) -> Outputs:
        """What the momentum heads make of the momentum backbone's features (B, features_dim)."""
        raise NotImplementedError

    @torch.no_grad()
    def momentum_forward(self, X: Tensor) -> Outputs:
        """As in the base class, with the momentum heads' outputs."""
        out = super().momentum_forward(X)
        return {**out, **self.momentum_head_outputs(out["feats"])}
