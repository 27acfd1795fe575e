"""Which handover rule a configuration asks for, and whether this training is long enough for it."""

from __future__ import annotations

import math

from rela_zoo._io.log import logger
from rela_zoo.engine._shape import RunShape
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.handover import AdaptiveHandover, ConstantHandover, Handover, PlateauHandover
from rela_zoo.engine.sampler import SubsetSampler
from rela_zoo.engine.surpass import Judge, SurpassHandover
from rela_zoo.errors import ConfigError, Problem

log = logger(__name__)

# The averages of the adaptive rule begin so far apart that with a loss of at most 1 it fires never before this step.
_EARLIEST_ADAPTIVE = 527


def refuse_open_end(config: RelaConfig, run: RunShape) -> None:
    """Refuse what ends with the training, where it is not known when that is."""
    wanted = []
    if config.accelerates and config.handover == "plateau":
        wanted.append(("rela.handover=plateau measures the loss by it", "rela.handover=adaptive"))
    if config.accelerates and not isinstance(config.handover, str) and config.handover != 1.0:
        wanted.append(("rela.handover is a fraction of it", "rela.handover=adaptive"))
    if config.mixes and config.mix == "linear":
        wanted.append(("rela.mix=linear ends with the training", "rela.mix to a number"))
    if config.accelerates and config.rewarm:
        wanted.append(("rela.rewarm squeezes schedules into what remains", "rela.rewarm=false"))
    if wanted:
        raise ConfigError(
            Problem("max_epochs", f"a number, for {why}", f"{run.epochs}", f"set max_epochs, or {instead}")
            for why, instead in wanted
        )


def handover_rule(
    config: RelaConfig, run: RunShape, sampler: SubsetSampler, total: int | None, judge: Judge | None
) -> Handover:
    """The rule of the configuration, sized by the steps that this run will really make."""
    if judge is not None:
        return SurpassHandover(judge)
    if config.handover == "adaptive":
        if config.accelerates and not run.trial and total is not None:
            _doubt_adaptive(total)
        return AdaptiveHandover()
    if config.handover == 1.0:
        return ConstantHandover(None)
    if config.handover == "surpass":
        return ConstantHandover(0)  # there is no accelerated stage, and so no judge
    if total is None:
        return ConstantHandover(0)  # without an accelerated stage; else it has been refused
    if config.handover == "plateau":
        return PlateauHandover(max(1, total))
    fraction = float(config.handover)
    if config.handover_at == "epoch":
        unit, length = "epoch", run.epochs_run(sampler, total)
        steps = run.optimiser_steps(sampler, int(fraction * length))
    else:
        unit, length = "step", total
        steps = int(fraction * total)
    if fraction and not steps and config.accelerates:
        if not run.trial:
            raise ConfigError([_no_accelerated(fraction, length, unit)])
        steps = 1
    return ConstantHandover(steps)


def refuse_too_short(config: RelaConfig, run: RunShape) -> None:
    """Refuse before any work what shows in the number of epochs alone; the rest shows with the sampler.

    Raises:
        ConfigError: the handover leaves no whole epoch to the accelerated stage.
    """
    fraction, epochs = config.handover, run.length
    if not config.accelerates or isinstance(fraction, str) or config.handover_at != "epoch" or not epochs:
        return
    if fraction and not run.trial and not int(fraction * epochs):
        raise ConfigError([_no_accelerated(fraction, epochs, "epoch")])


def _no_accelerated(fraction: float, length: int, unit: str) -> Problem:
    """A handover after a fraction of so many epochs (or steps) that rounds to none.

    Args:
        fraction: `rela.handover`, in (0, 1).
        length: of the training.
        unit: `epoch` or `step`, as `rela.handover_at` says.
    """
    key = "max_epochs" if unit == "epoch" else "the number of steps"
    fix = f"raise {key}, or set rela.handover=0.0 for the method's own stage alone"
    if unit == "epoch":
        fix = f"set rela.handover_at=step to hand over inside an epoch, {fix}"
    got = f"{fraction:g} of {length} {unit}{'s' * (length != 1)}, rounded down: none"
    return Problem("rela.handover", f"at least one whole {unit} of the accelerated stage", got, fix)


def _doubt_adaptive(total: int) -> None:
    """Warn of a run that is too short for the adaptive rule."""
    # A flat loss c hands over after about 1000·ln((1 − c) / 0.0456) steps.
    flat = 1 - 0.0456 * math.exp(total / 1000)
    if total < _EARLIEST_ADAPTIVE:
        log.warning(
            f"rela_zoo: rela.handover=adaptive can't fire in the {total} optimiser steps of this run, for with a loss "
            f"of at most 1 it never does before step {_EARLIEST_ADAPTIVE}: all of it will be accelerated. "
            "rela.handover=0.5 hands over half-way"
        )
    elif flat > 0:
        log.warning(
            f"rela_zoo: rela.handover=adaptive fires in the {total} optimiser steps of this run only if the "
            f"accelerated loss levels off above about {flat:.2f}; rela.handover=0.5 hands over half-way"
        )


def predicted(rule: Handover, total: int | None) -> str:
    """When a rule will fire in so many steps, for the user, as far as that is known; empty where the rule says it."""
    if isinstance(rule, SurpassHandover):
        judge = rule.judge
        return f" (20-NN accuracy of the prior: {judge.wanted:.1%}, on {judge.images} training images)"
    if not isinstance(rule, AdaptiveHandover):
        return ""
    if total is not None and total < _EARLIEST_ADAPTIVE:
        return f" (never in its {total} steps)"
    latest = math.ceil(1000 * math.log(1 / 0.0456))
    of = "" if total is None else f" of {total}"
    return f" (between step {_EARLIEST_ADAPTIVE} and about {latest}{of}, the later the lower the loss)"
