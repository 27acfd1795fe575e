"""The network that is trained: backbone, the method's parts, a momentum copy, and the head of the accelerated stage."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments._backbone import build_backbone
from experiments._methods import build_method
from rela_zoo.engine import scale_gradients
from rela_zoo.engine.objective import cosine_discrepancy

Network = Callable[[Tensor], Tensor]


class Student(nn.Module):
    """One student with the losses of both stages.

    Args:
        settings: of the run.
        target_dim: width of the accelerated stage's targets; None for a run without a prior.
        trim: see `build_backbone`.

    Weights are drawn from torch's global generator, in an order that does not depend on the prior: runs of one seed
    start from the same backbone and the same heads of the method.
    """

    def __init__(self, settings: dict[str, Any], target_dim: int | None, *, trim: bool) -> None:
        super().__init__()
        self.backbone = build_backbone(
            settings["backbone"], settings["stem"], trim=trim, zero_init=settings["zero_init"]
        )
        dim = int(self.backbone.num_features)
        self.method = build_method(dim, settings)
        self.rela_head: nn.Linear | None = None
        if target_dim is not None:
            self.rela_head = nn.Linear(dim, min(dim, target_dim))
            self.rela_head.requires_grad_(settings["head"] == "trained")
        self.momentum: nn.ModuleList | None = None
        if self.method.has_momentum:
            self.momentum = nn.ModuleList([copy.deepcopy(self.backbone), copy.deepcopy(self.method.projector)])
            self.momentum.requires_grad_(False)
        self._online: Network = lambda images: self.backbone(images)
        self._target: Network = lambda images: self.momentum[0](images)

    def accelerated_losses(self, views: list[Tensor], targets: Tensor) -> Tensor:
        """Views (B, 3, H, W) and targets (B, k) → the accelerated loss of each sample, (B,) float32."""
        assert self.rela_head is not None
        losses = [cosine_discrepancy(self.rela_head(self._online(view)), targets) for view in views]
        return torch.stack(losses).mean(0)

    def own_loss(self, views: list[Tensor], progress: float, weights: Tensor | None = None) -> Tensor:
        """The method's own loss of a batch, a scalar; weights (B,) scale the gradients that enter the network."""
        targets: list[Tensor] = []
        if self.momentum is not None:
            with torch.no_grad():
                targets = [self.momentum[1](self._target(view)) for view in views]
        outputs = {str(i): self.method.outputs(self._online(view)) for i, view in enumerate(views)}
        return self.method(list(scale_gradients(outputs, weights).values()), targets, progress)

    def compile_backbones(self) -> None:
        """Run the backbones through torch.compile from now on; the weights stay where they are."""
        # Inside functions, lest the compiled modules be registered as further parts of this one.
        online = torch.compile(self.backbone)
        self._online = lambda images: online(images)
        if self.momentum is not None:
            target = torch.compile(self.momentum[0])
            self._target = lambda images: target(images)

    @torch.no_grad()
    def update_momentum(self, tau: float) -> None:
        """Momentum parameters ← tau · momentum + (1 − tau) · online; buffers are the momentum network's own."""
        if self.momentum is not None:
            online = [*self.backbone.parameters(), *self.method.projector.parameters()]
            torch._foreach_lerp_(list(self.momentum.parameters()), online, 1.0 - tau)
