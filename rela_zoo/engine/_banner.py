"""What a run is about to do, for the user, on a few lines."""

from __future__ import annotations

from collections.abc import Sequence

from rela_zoo.engine._shape import RunShape
from rela_zoo.engine._stage import StageControl
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.sampler import SubsetSampler
from rela_zoo.engine.targets import Targets


def banner(
    config: RelaConfig,
    run: RunShape,
    sampler: SubsetSampler,
    stage: StageControl,
    targets: Sequence[Targets],
    dims: Sequence[int],
) -> str:
    """The lines, without a newline at the end."""
    data = _data(config, run, sampler)
    if not targets:
        return f"rela_zoo is active · no prior: the method's own stage from the start\n  data    {data}"
    lines = [f"rela_zoo is active · prior {', '.join(config.priors)} ({config.preprocessing} preprocessing)"]
    for one in targets:
        lines.append(f"  rows    {one.table.shape[0]} × {one.table.shape[1]}, digest {one.table.digest[:12]}")
    how = "standardised" if config.power == 1 else f"divided by deviation^{config.power:g}"
    # No widths where the embeddings choose samples only.
    for one, dim in zip(targets, dims, strict=False):
        explained = sum(one.transport.stats.explained_variance_ratio[:dim])
        lines.append(f"  targets {dim} dimensions, {explained:.1%} of the variance, {how}; head {config.head}")
    return "\n".join([*lines, f"  data    {data}", f"  stages  {_stages(config, stage)}"])


def _data(config: RelaConfig, run: RunShape, sampler: SubsetSampler) -> str:
    subset = sampler.subset
    of, trained = f"{config.data_ratio:g} of {subset.n} samples", run.samples(sampler, 0)
    ratio = f"{of}: {trained} in each epoch, drawn afresh"
    if subset.counts is not None:
        last = run.samples(sampler, len(subset.counts) - 1)
        ratio = f"{of} on average, from {trained} to {last} in an epoch, drawn afresh"
    elif trained != len(subset):
        ratio += f" (whole batches of the {len(subset)} drawn)"
    return f"{ratio}; {config.selection.banner}" if config.selection.banner else ratio


def _stages(config: RelaConfig, stage: StageControl) -> str:
    rule = "the method’s own from the start"
    if config.accelerates:
        unit = "epoch" if config.handover == "surpass" else config.handover_at
        rule = f"accelerated first; handover {config.handover}, at the next {unit}"
        rule += f"{stage.predicted()}{', schedules anew' if config.rewarm else ''}"
    if config.mixes:
        rule += f"; then the accelerated loss keeps a share of {'1 → 0' if config.mix == 'linear' else config.mix}"
    return rule
