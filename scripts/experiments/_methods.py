"""BYOL, SimCLR and DINO as modules on top of a backbone's features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from experiments._losses import byol_loss, dino_loss, nt_xent_loss


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


class Method(nn.Module):
    """What a method adds to a backbone.

    Attributes:
        projector: the part of which the momentum network has a copy.
        has_momentum: whether there is a momentum network at all.
    """

    has_momentum = True
    projector: nn.Module

    def outputs(self, features: Tensor) -> Tensor:
        """What the loss looks at: features (B, D) of a view → (B, K)."""
        return self.projector(features)

    def forward(self, outputs: list[Tensor], targets: list[Tensor], progress: float) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            outputs: a (B, K) for each of two views, see `outputs`.
            targets: a (B, K) for each view, from the momentum backbone and projector; empty without them.
            progress: fraction of the epochs done, in [0, 1).
        """
        raise NotImplementedError


class Byol(Method):
    """Bootstrap your own latent (arXiv 2006.07733)."""

    def __init__(self, dim: int, settings: dict[str, Any]) -> None:
        super().__init__()
        hidden, out = settings["hidden_dim"], settings["output_dim"]
        self.projector = _mlp(dim, hidden, out)
        self.predictor = _mlp(out, hidden, out)

    def outputs(self, features: Tensor) -> Tensor:
        """Predictions of the momentum network's projections."""
        return self.predictor(self.projector(features))

    def forward(self, outputs: list[Tensor], targets: list[Tensor], progress: float) -> Tensor:
        first, second = outputs
        return (byol_loss(first, targets[1]) + byol_loss(second, targets[0])) / 2


class SimClr(Method):
    """A simple framework for contrastive learning (arXiv 2002.05709)."""

    has_momentum = False

    def __init__(self, dim: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.projector = _mlp(dim, settings["hidden_dim"], settings["output_dim"])
        self._temperature = settings["temperature"]

    def forward(self, outputs: list[Tensor], targets: list[Tensor], progress: float) -> Tensor:
        first, second = outputs
        return nt_xent_loss(first, second, self._temperature)


class Dino(Method):
    """Self-distillation with no labels (arXiv 2104.14294), with two large crops."""

    _TEMPERATURES = 0.04, 0.07  # of the teacher, at the start and after the warm-up
    _WARM = 0.3  # fraction of the epochs
    _CENTRE_MOMENTUM = 0.9

    def __init__(self, dim: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.projector = _DinoHead(dim, settings["hidden_dim"], settings["output_dim"], settings["prototypes"])
        self.register_buffer("centre", torch.zeros(settings["prototypes"]))
        self.centre: Tensor

    def forward(self, outputs: list[Tensor], targets: list[Tensor], progress: float) -> Tensor:
        cold, warm = self._TEMPERATURES
        temperature = cold + (warm - cold) * min(1.0, progress / self._WARM)
        loss = dino_loss(outputs, targets, self.centre, temperature)
        mean = torch.cat(targets).float().mean(0)
        self.centre = self.centre * self._CENTRE_MOMENTUM + mean * (1 - self._CENTRE_MOMENTUM)
        return loss


class _DinoHead(nn.Module):
    """Three layers, a unit vector, and prototypes of unit length."""

    def __init__(self, dim: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.normalize(self.layers(x).float(), dim=1)
        return nn.functional.linear(x, nn.functional.normalize(self.prototypes, dim=1))


_CLASSES: dict[str, type[Method]] = {"byol": Byol, "simclr": SimClr, "dino": Dino}


def build_method(dim: int, settings: dict[str, Any]) -> Method:
    """The method named by the settings, for features of `dim`; initialised from torch's global generator."""
    return _CLASSES[settings["method"]](dim, settings)
