"""How far a student's features are from the priors' targets: the heads, and the discrepancy of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rela_zoo._io.device import to_device
from rela_zoo._io.log import logger
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.objective import build_head, cosine_discrepancy
from rela_zoo.engine.targets import Targets
from rela_zoo.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rela_zoo.transport import TargetTransport

log = logger(__name__)


class Alignment:
    """A head for each prior.

    Args:
        config: whose `head`, `power` and `components` say how targets and heads are made.
        targets: of each prior.
        features_dim: width of the features, m.
        seed: of the heads' initial weights.
        device: where features and heads live.

    Attributes:
        head: the head; a `ModuleList` of them where there are several priors.
        dims: k, the width of each prior's targets.

    Raises:
        ConfigError: the width of the features is not known.
    """

    def __init__(
        self, config: RelaConfig, targets: Sequence[Targets], features_dim: int | None, seed: int, device: torch.device
    ) -> None:
        if not features_dim:
            fix = "choose a backbone whose class sets features_dim"
            got = f"features_dim={features_dim}"
            raise ConfigError([Problem("backbone.name", "a student with features", got, fix)])
        width = int(features_dim)
        self._power, self._targets = config.power, [one.to(device) for one in targets]
        self.dims = tuple(_width(one.transport, width, config.components) for one in targets)
        # One prior's head is the same whether or not there are others behind it.
        self._heads = [
            build_head(config.head, width, dim, seed + number).to(device) for number, dim in enumerate(self.dims)
        ]
        self.head: nn.Module = self._heads[0] if len(self._heads) == 1 else nn.ModuleList(self._heads)
        self._kind = config.head
        # Of trained heads, until they have been used for an epoch: a few of their weights as they were made.
        self._used, self._made = False, None if config.head == "frozen" else self._sample()

    def __call__(self, features: Sequence[Tensor], indices: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of each sample, the mean over views and priors of 1 − cos(head(features), target); and the mean of those.

        Args:
            features: of each view, (B, m) with gradient.
            indices: (B,) int64 on the CPU, which samples.
            weights: (B,) of the samples in their mean; None for all alike.

        Returns:
            (B,) float32, in [0, 2], and a scalar.
        """
        self._used = True
        losses = []
        for targets, head, dim in zip(self._targets, self._heads, self.dims, strict=True):
            rows = to_device(targets.rows(indices), features[0].device)
            wanted = targets.transport(rows, dim=dim, power=self._power)
            losses += [cosine_discrepancy(head(one), wanted) for one in features]
        # A cosine is at the same scale for every prior, whatever the size of its embeddings: all count alike.
        each = torch.stack(losses).mean(dim=0)
        return each, each.mean() if weights is None else (weights * each).mean()

    def end_epoch(self) -> None:
        """After an epoch: say so if trained heads have been used, and are still as they were made; once."""
        if self._made is None or not self._used:
            return
        stuck, self._made = all(map(torch.equal, self._made, self._sample())), None
        if stuck:
            log.warning(
                "rela_zoo: rela.head=%s, and the head has not moved: put the accelerator's parameters() into the "
                "optimiser, or set rela.head=frozen", self._kind,
            )  # fmt: skip

    def _sample(self) -> list[Tensor]:
        return [next(head.parameters()).detach().flatten()[:64].clone() for head in self._heads]


def _width(transport: TargetTransport, features_dim: int, wanted: int | float | None) -> int:
    """k of one prior: what the features can hold, the prior has, and `rela.components` asks for."""
    kept = transport.max_dim
    if wanted is not None:
        kept = min(kept, wanted) if isinstance(wanted, int) else transport.dim_for(wanted)
    return min(features_dim, kept)
