"""A prior through torch's compiler, where that saves more than it takes and leaves the rows as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rela_zoo._io.log import logger
from rela_zoo._io.resources import usable_cores
from rela_zoo.embeddings._agreement import MOST_DIFFERENCE, agreement

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

log = logger(__name__)

# 10⁹ multiply-adds of a whole job, for each core, from which on a CPU compiles: twice those that save what it takes for
# the networks that gain least by it (scripts/bench/bench_compile.py). Transformers gain little.
_PAYS = 10_000
_COSTLIEST = 500  # of an image; fewer images are not worth the counting
# As a part of a row's length; float16 rounds by ten times as much. In lower precision it is what that may do.
_MOST_DIFFERENCE = 2e-5


def pays(prior: Prior, images: int, device: torch.device) -> bool:
    """Whether to compile where nobody says: on a CPU, convolutions, for much work. On a GPU it has not been measured.

    It goes by what there is to do in all, not by what is left, so that a run that goes on computes as it began.
    """
    spec = getattr(prior, "spec", None)
    least = _PAYS * usable_cores()
    if spec is None or device.type != "cpu" or images * _COSTLIEST < least:
        return False
    if sum(isinstance(one, nn.Conv2d) for one in prior.modules()) < 2:  # a transformer cuts its patches out by one
        return False
    from rela_zoo.prior import with_cost

    cost = with_cost(spec).gmacs
    return cost is not None and cost * images >= least


class Compiled:
    """Embeds batches; compiles with the first one.

    The rows of that batch are made in float32 by the prior as it is, too. Where compiling fails, as without a C++
    compiler, or gives rows that are too far from those, the prior goes on as it is, and that is said.

    Args:
        batch_size: of a whole batch. Smaller ones are filled up, for what is compiled has one shape.

    Attributes:
        seconds: that compiling took.
        works: whether it is used; None before the first batch.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._call: Any = None
        self.seconds = 0.0
        self.works: bool | None = None

    def __call__(self, prior: Prior, images: Tensor) -> Tensor:
        """Images (b, 3, H, W) on the prior's device, b at most the size of a batch → rows (b, D)."""
        if self.works is None:
            begun = time.perf_counter()
            self.works = self._compile(prior, images)
            self.seconds = time.perf_counter() - begun
        if not self.works:
            return prior(images)
        rows: Tensor = self._call(self._filled(images))[: len(images)]
        return rows

    def _filled(self, images: Tensor) -> Tensor:
        missing = self._batch_size - len(images)
        return images if missing <= 0 else torch.cat([images, images[:1].expand(missing, *images.shape[1:])])

    def _compile(self, prior: Prior, images: Tensor) -> bool:
        log.info("compiling the prior, which takes up to a minute; --no-compile goes without")
        lower = torch.is_autocast_enabled(images.device.type)
        try:
            self._call = torch.compile(_alone(prior), dynamic=False)
            near = agreement(self._call(self._filled(images))[: len(images)].float(), _in_float32(prior, images))
        except Exception as error:  # the compiler's own, and those of the compiler that it calls
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("rela_zoo: the prior is not compiled: %s", said)
            return False
        if not near.difference <= (MOST_DIFFERENCE if lower else _MOST_DIFFERENCE):  # NaN, too
            log.warning("rela_zoo: the prior is not compiled: that would move rows by %.2g of them", near.difference)
            return False
        return True


def _alone(prior: Prior) -> Callable[[Tensor], Tensor]:
    """The prior as a function with code of its own: of one code torch compiles eight variants, and no more."""

    def embedded(images: Tensor) -> Tensor:
        return prior(images)

    embedded.__code__ = embedded.__code__.replace()
    return embedded


def _in_float32(prior: Prior, images: Tensor) -> Tensor:
    """Rows of the prior as it is, whatever it is to compute in."""
    before = getattr(prior, "computes_in", None)
    if before is not None:
        prior.computes_in = None
    try:
        with torch.autocast(images.device.type, enabled=False):
            return prior(images).float()
    finally:
        if before is not None:
            prior.computes_in = before
