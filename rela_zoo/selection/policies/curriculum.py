"""One policy after another, in epochs that may grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, InstanceOf, field_validator

from rela_zoo._io.fields import Fix, Problems
from rela_zoo._io.validation import within
from rela_zoo.errors import Problem
from rela_zoo.selection._policy_subset import PolicySubset, RatioSchedule
from rela_zoo.selection._scores import EpochScores, Scores
from rela_zoo.selection.policies._base import Context, Policy, PolicyOptions
from rela_zoo.selection.policies._read import read_policy
from rela_zoo.selection.subset import Subset, subset_size


@dataclass(frozen=True)
class Phase:
    """A policy, used in the epochs that begin before the fraction `until` of the training."""

    policy: Policy
    until: float


class Curriculum(Policy):
    """One policy after another; the size of the epochs may change linearly from the first to the last."""

    name = "curriculum"
    needs_epochs = True
    is_phase = False

    class Options(PolicyOptions):
        """The phases in order, and the last epoch's size over the first one's."""

        phases: Annotated[
            tuple[InstanceOf[Phase], ...],
            Field(
                min_length=1,
                validate_default=True,
                description="a list of policies, each with `until`, a fraction of max_epochs; the last one without",
            ),
            Fix("set {key}=[{name: uniform}]"),
        ] = ({"name": "prototypical", "until": 0.5}, {"name": "uniform"})  # type: ignore[assignment]
        growth: Annotated[int | float, Field(gt=0, description="a number > 0")] = 1.0

        @field_validator("phases", mode="before")
        @classmethod
        def _phases(cls, listed: Any) -> Any:
            if not isinstance(listed, list | tuple) or not listed:
                return listed
            phases, problems, before = [], [], 0.0
            for number, given in enumerate(listed):
                phase, found = _read_phase(given, before, last=number == len(listed) - 1)
                problems += within(str(number), found)
                if phase is not None:
                    phases.append(phase)
                    before = phase.until
            if problems:
                raise Problems(problems)
            return tuple(phases)

    options: Options

    def parts(self) -> tuple[Policy, ...]:
        return (self, *(phase.policy for phase in self.options.phases))

    def _largest(self, ratio: float) -> float:
        """The largest epoch of the training, where the average one has `ratio` of the data."""
        growth = float(self.options.growth)
        return ratio * 2.0 * max(1.0, growth) / (1.0 + growth)

    def check(self, ratio: float) -> list[Problem]:
        problems, largest, growth = [], self._largest(ratio), self.options.growth
        if largest > 1.0 + 1e-9:
            expected = f"a growth whose largest epoch fits into the data: data_ratio={ratio:g} is the average"
            got = f"{growth:g}, which would take {largest:.2f} of the data in one epoch"
            fix = "lower rela.data_ratio, or bring the growth nearer to 1"
            problems.append(Problem("growth", expected, got, fix))
        for number, phase in enumerate(self.options.phases):
            problems += within(f"phases.{number}", phase.policy.check(min(largest, 1.0)))
        return problems

    def scores(self, context: Context) -> EpochScores:
        assert context.epochs is not None
        epochs = context.epochs
        phases = [(phase.until, phase.policy.scores(context)) for phase in self.options.phases]

        def wanted(epoch: int) -> Scores:
            progress = epoch / epochs
            # The tolerance keeps 0.3 of 10 epochs three epochs long.
            scores = next((scores for until, scores in phases if progress < until - 1e-9), phases[-1][1])
            return scores(epoch)

        return wanted

    def subset(self, context: Context) -> Subset:
        assert context.epochs is not None
        growth, size, schedule = float(self.options.growth), subset_size(context.n, context.ratio), None
        if growth != 1.0:
            schedule = RatioSchedule(size, growth, context.epochs)
            context = context.growing(max(schedule.counts))
        looks = any(part.needs_losses for part in self.parts())
        return PolicySubset(
            context.n,
            context.ratio,
            context.seed,
            self.scores(context),
            {**self.plain(), "epochs": context.epochs},
            losses=context.losses if looks else None,
            schedule=schedule,
        )

    def plain(self) -> dict[str, Any]:
        phases = [{**phase.policy.plain(), "until": phase.until} for phase in self.options.phases]
        return {"name": self.name, "phases": phases, "growth": self.options.growth}

    def __str__(self) -> str:
        phases = ", ".join(f"{phase.policy.name} until {phase.until:g}" for phase in self.options.phases)
        return f"curriculum ({phases}; growth {self.options.growth:g})"


def _read_phase(given: Any, before: float, *, last: bool) -> tuple[Phase | None, list[Problem]]:
    """One entry of `phases`.

    Args:
        given: a name, or a mapping with the policy's options and `until`.
        before: where the last phase ends.
        last: whether it is the last one.
    """
    section = {"name": given} if isinstance(given, str) else given
    if not isinstance(section, Mapping):
        return None, [Problem("", "a policy with `until`", repr(given), "set {key}={name: uniform}")]
    problems = []
    until: Any = section.get("until", 1.0 if last else None)
    number = isinstance(until, int | float) and not isinstance(until, bool)
    if not number or not before < until <= 1.0 or (until == 1.0) != last:
        expected = "1, or nothing, in the last phase" if last else f"a fraction above {before:g} and below 1"
        problems.append(Problem("until", expected, repr(until), "let `until` rise from phase to phase"))
    policy, found = read_policy({key: value for key, value in section.items() if key != "until"})
    problems += found
    if policy is not None and not policy.is_phase:
        problems.append(Problem("name", "a policy that isn't a schedule itself", policy.name, "choose another"))
    if policy is not None and policy.options.record is not None:
        problems.append(Problem("record", "nothing in a phase", policy.options.record, "set it beside `phases`"))
    return (None if policy is None or problems else Phase(policy, float(until))), problems
