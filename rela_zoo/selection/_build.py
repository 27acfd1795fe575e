"""From a checked policy to the subsets it draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rela_zoo.errors import SelectionError
from rela_zoo.selection._config import SelectionConfig
from rela_zoo.selection._losses import RunningLosses
from rela_zoo.selection._policies import ByLoss, Curriculum, Policy, equal_shares, nearest, uniform
from rela_zoo.selection._policy_subset import PolicySubset, RatioSchedule
from rela_zoo.selection.subset import EpochSubset, Subset, subset_size


class Space(Protocol):
    """What policies ask about the prior's space; every answer is in the order of the data set."""

    def clusters(self, count: int | None, dims: int) -> tuple[np.ndarray, np.ndarray]:
        """k-means: labels (N,) int32 and distances (N,) float32 to the own centroid."""
        ...

    def cells(self, count: int, dims: int) -> np.ndarray:
        """(N,) int32: the nearest of `count` centres, at most, that are spread evenly over the space."""
        ...

    def duplicates(self, threshold: float, clusters: int | None, dims: int) -> np.ndarray:
        """(N,) int32: groups of near-duplicates; a sample without any is a group of its own."""
        ...


def build_subset(
    config: SelectionConfig,
    *,
    n: int,
    ratio: float,
    seed: int,
    epochs: int | None = None,
    space: Space | None = None,
    ids: Sequence[str] | None = None,
) -> Subset:
    """The subsets that a policy draws from a data set.

    Args:
        config: the checked policy.
        n: samples in the data set, ≥ 1.
        ratio: fraction of them in an epoch, on average, in (0, 1].
        seed: of the draws.
        epochs: of the training; needed by `curriculum`, checked by `replay`.
        space: of the prior; needed by the policies that look at its embeddings.
        ids: of the samples; needed by `replay`, and to record.

    Returns:
        The subsets; not yet recorded, whatever `config.record` says.

    Raises:
        ValueError: if `ratio` is outside (0, 1], or the subset would be empty.
        SelectionError: if what the policy needs is not given, or it cannot fill an epoch.
    """
    if config.name == "uniform":
        return EpochSubset(n, ratio, seed)
    if config.name == "replay":
        return _replay(config, ratio, epochs, _needed(ids, config, "sample ids"))
    losses: RunningLosses | None = None
    if config.needs_losses:
        momenta = [part.options["momentum"] for part in config.parts() if part.name == "loss"]
        losses = RunningLosses(n, float(momenta[0]))
    if config.name != "curriculum":
        policy = _policy(config, n, subset_size(n, ratio), space, losses)
        return PolicySubset(n, ratio, seed, policy, config.plain())
    length, growth = int(_needed(epochs, config, "the number of epochs")), float(config.options["growth"])
    schedule = RatioSchedule(subset_size(n, ratio), growth, length) if growth != 1.0 else None
    largest = max(schedule.counts) if schedule is not None else subset_size(n, ratio)
    phases = [(until, _policy(phase, n, largest, space, losses)) for until, phase in config.options["phases"]]
    described = {**config.plain(), "epochs": length}
    return PolicySubset(n, ratio, seed, Curriculum(phases, length), described, schedule)


def _needed(value: Any, config: SelectionConfig, what: str) -> Any:
    if value is None:
        raise SelectionError(
            f"selection {config.name} needs {what}", expected=what, got="none", fix="choose selection uniform"
        )
    return value


def _policy(config: SelectionConfig, n: int, largest: int, space: Space | None, losses: RunningLosses | None) -> Policy:
    """A policy for epochs of at most `largest` samples."""
    options = config.options
    if config.name == "uniform":
        return uniform(n)
    if config.name == "loss":
        assert losses is not None
        return ByLoss(losses, float(options["uniform_share"]), options["weighted"])
    known: Space = _needed(space, config, "the prior's embeddings")
    dims = int(options["dims"])
    if config.name in ("prototypical", "hard"):
        # Half-way between what is drawn and everything: a fresh draw needs room.
        pool = (n + largest) // 2 if options["pool"] is None else math.ceil(float(options["pool"]) * n)
        distances = known.clusters(options["clusters"], dims)[1]
        return nearest(distances, max(pool, largest), farthest=config.name == "hard")
    if config.name == "balanced":
        cells = known.clusters(options["clusters"], dims)[0]
    elif config.name == "coverage":
        count = options["centres"] or max(2, largest)
        cells = known.cells(count, dims)
    else:
        cells = known.duplicates(float(options["threshold"]), options["clusters"], dims)
    return equal_shares(cells, options["weighted"])


def _replay(config: SelectionConfig, ratio: float, epochs: int | None, ids: Sequence[str]) -> Subset:
    from rela_zoo.selection.record import ReplayedSubset

    subset = ReplayedSubset(config.options["path"], ids)
    if abs(subset.ratio - ratio) > 1e-9:
        raise SelectionError(
            f"{config.options['path']} holds subsets of another size",
            expected=f"data_ratio {ratio:g}",
            got=f"{subset.ratio:g}",
            fix=f"set rela.data_ratio={subset.ratio:g}",
        )
    if epochs is not None and epochs > subset.epochs:
        raise SelectionError(
            f"{config.options['path']} holds too few epochs",
            expected=f"{epochs}",
            got=f"{subset.epochs}",
            fix=f"set max_epochs={subset.epochs}, or export more with `rela-zoo subset export --epochs {epochs}`",
        )
    return subset
