"""What a selection policy is: a class with a name, typed options, and a wish for each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import numpy as np
from pydantic import Field

from rela_zoo._io.fields import PathText, Section
from rela_zoo._io.plugins import Plugin
from rela_zoo.errors import Problem, SelectionError
from rela_zoo.selection._losses import RunningLosses
from rela_zoo.selection._policy_subset import PolicySubset
from rela_zoo.selection._scores import EpochScores
from rela_zoo.selection.subset import Subset, subset_size

Known = TypeVar("Known")


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


class Context:
    """What a policy is told when its subsets are made.

    Attributes:
        n: N, samples in the data set.
        ratio: fraction of them in an epoch, on average, in (0, 1].
        seed: of the draws.
        epochs: of the training, or None if nobody knows; known where the policy has `needs_epochs`.
    """

    def __init__(
        self,
        n: int,
        ratio: float,
        seed: int,
        epochs: int | None = None,
        *,
        space: Space | None = None,
        ids: Sequence[str] | None = None,
        losses: RunningLosses | None = None,
        largest: int | None = None,
    ) -> None:
        self.n, self.ratio, self.seed, self.epochs = n, ratio, seed, epochs
        self._space, self._ids, self._losses, self._largest = space, ids, losses, largest

    @property
    def largest(self) -> int:
        """Samples of the largest epoch."""
        return subset_size(self.n, self.ratio) if self._largest is None else self._largest

    @property
    def space(self) -> Space:
        """The prior's space; for policies with `needs_embeddings`."""
        return _asked_for(self._space, "space", "needs_embeddings")

    @property
    def ids(self) -> Sequence[str]:
        """Sample id of each position; for policies with `needs_ids`."""
        return _asked_for(self._ids, "ids", "needs_ids")

    @property
    def losses(self) -> RunningLosses:
        """The running loss of each sample; for policies with `needs_losses`."""
        return _asked_for(self._losses, "losses", "needs_losses")

    def growing(self, largest: int) -> Context:
        """The same, with epochs of different sizes.

        Args:
            largest: samples of the largest one.
        """
        known = {"space": self._space, "ids": self._ids, "losses": self._losses}
        return Context(self.n, self.ratio, self.seed, self.epochs, **known, largest=largest)  # type: ignore[arg-type]


def _asked_for(value: Known | None, attribute: str, need: str) -> Known:
    if value is None:
        raise SelectionError(
            f"a selection policy looks at context.{attribute} without having asked for it",
            expected=f"{need} = True in its class",
            got=f"{need} = False",
        )
    return value


class PolicyOptions(Section):
    """Options that every policy has; a policy's own derive from it."""

    record: Annotated[PathText | None, Field(description="a folder to write each epoch's samples to, or null")] = None

    @classmethod
    def known_keys(cls) -> list[str]:
        # A policy's own first.
        return [*(key for key in cls.model_fields if key != "record"), "record"]


# Options that several policies have.
Clusters = Annotated[int, Field(ge=2, description="a number of clusters ≥ 2, or null")] | None
Dims = Annotated[int, Field(ge=1, description="a number of principal components ≥ 1")]
Fraction = Annotated[int | float, Field(gt=0, le=1, description="a fraction in (0, 1]")]
Pool = Annotated[int | float, Field(gt=0, le=1, description="a fraction in (0, 1], or null")] | None


@dataclass(frozen=True)
class Policy(Plugin):
    """How the samples of an epoch are chosen. A subclass in a file of its own is a policy.

    Another package adds one by an entry point of the group `rela_zoo.policies`, `name = "module:Class"`:

        class EveryOther(Policy):
            name = "every-other"

            class Options(PolicyOptions):
                odd: bool = False

            options: Options

            def scores(self, context):
                values = np.arange(context.n) % 2 == self.options.odd
                return always(Scores(values.astype(np.float64)))

    Attributes:
        name: by which a configuration asks for it.
        Options: their model, derived from `PolicyOptions`; `record` among them is handled elsewhere.
        needs_embeddings: whether it looks at the prior's embeddings: at `context.space`.
        needs_losses: whether it looks at the losses of the accelerated stage: at `context.losses`.
        needs_ids: whether it looks at `context.ids`.
        needs_epochs: whether it must know `context.epochs`.
        is_phase: whether a curriculum may have it as a phase.
        options: checked.
    """

    Options: ClassVar[type[PolicyOptions]] = PolicyOptions
    needs_embeddings: ClassVar[bool] = False
    needs_losses: ClassVar[bool] = False
    needs_ids: ClassVar[bool] = False
    needs_epochs: ClassVar[bool] = False
    is_phase: ClassVar[bool] = True

    options: PolicyOptions

    @classmethod
    def flaw(cls) -> str | None:
        if not (isinstance(cls.Options, type) and issubclass(cls.Options, PolicyOptions)):
            return f"{cls.__name__}.Options, which does not derive from PolicyOptions"
        if cls.scores is Policy.scores and cls.subset is Policy.subset:
            return f"{cls.__name__}, which defines neither `scores` nor `subset`"
        return None

    # ── what a policy has to say ──────────────────────────────────────────────────────────────────────────────────

    def scores(self, context: Context) -> EpochScores:
        """What is wanted of each epoch; called once, and its result before every epoch.

        Args:
            context: of the subsets.

        Returns:
            A function from an epoch ≥ 0 to `Scores`; of nothing but the context and the epoch, so that all ranks and
            a resumed run come to the same.
        """
        raise NotImplementedError

    def subset(self, context: Context) -> Subset:
        """The subsets, drawn as `scores` says; only a policy that draws otherwise overrides it.

        Raises:
            SelectionError: the policy can't fill an epoch.
        """
        losses = context.losses if self.needs_losses else None
        return PolicySubset(context.n, context.ratio, context.seed, self.scores(context), self.plain(), losses)

    def check(self, ratio: float) -> list[Problem]:
        """What only shows in options and size together.

        Args:
            ratio: fraction of the data in the largest epoch, in (0, 1].

        Returns:
            Problems by key of an option.
        """
        return []

    def preflight(self, ratio: float) -> list[Problem]:
        """What can be known to be wrong before data are touched: files that the options name.

        Args:
            ratio: `data_ratio`.

        Returns:
            Problems by key: `selection.…`, or `data_ratio`.
        """
        return []

    def running_losses(self, n: int) -> RunningLosses:
        """The average of each sample's losses that a policy with `needs_losses` looks at.

        Args:
            n: N, samples in the data set.
        """
        return RunningLosses(n, momentum=0.5)

    # ── what follows from it ──────────────────────────────────────────────────────────────────────────────────────

    def parts(self) -> tuple[Policy, ...]:
        """All policies that it is made of, itself included."""
        return (self,)

    def plain(self) -> dict[str, Any]:
        """Name and options as plain data: what decides which samples are drawn, for checkpoints and exports."""
        return {"name": self.name, **{key: value for key, value in self.options if key != "record"}}

    def banner(self) -> str:
        """What the run's banner says of it; "" for nothing."""
        return f"selection {self}"

    def __str__(self) -> str:
        return self.name


def check_pool(pool: float | None, ratio: float) -> list[Problem]:
    """Whether an epoch can be drawn from a part of the data."""
    if pool is None or pool >= ratio - 1e-9:
        return []
    expected = f"at least {ratio:g}, the fraction of the data drawn in an epoch"
    return [Problem("pool", expected, f"{pool:g}", "raise it, or set it to null")]


def pool_size(pool: float | None, context: Context) -> int:
    """How many samples to draw from."""
    # Half-way between what is drawn and everything: a fresh draw needs room.
    wanted = (context.n + context.largest) // 2 if pool is None else math.ceil(float(pool) * context.n)
    return max(wanted, context.largest)
