"""The subsets of a run: its policy, given what the policy looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rela_zoo._io import ranks
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.targets import Targets
from rela_zoo.errors import ConfigError, Problem, SelectionError
from rela_zoo.selection.subset import Subset

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource


def run_subset(
    config: RelaConfig,
    *,
    n: int,
    seed: int,
    epochs: int | None,
    source: ImageSource | None,
    targets: Targets | None,
    device: torch.device,
) -> Subset:
    """The subsets that a run trains on, recorded if the configuration says so.

    Args:
        config: of the run.
        n: samples of the data set.
        seed: of the draws.
        epochs: of the training; None or negative for a training without a set number of them.
        source: the samples by id; needed to replay or record.
        targets: the prior's rows; needed by policies that look at them.
        device: where clusters and the like are computed, by the first process, which also records.

    Raises:
        ConfigError: a curriculum without a number of epochs, or recorded subsets that don't fit.
        SelectionError: the folder to record to holds other subsets, or those to replay are of other pictures.
    """
    from rela_zoo.selection import build_subset

    selection, space = config.selection, None
    if selection.needs_embeddings:
        from rela_zoo.selection.geometry.space import TableSpace

        assert targets is not None
        space = TableSpace(targets.table, targets.transport, targets.positions, device=device)
    ids = source.ids if source is not None else None
    try:
        subset = build_subset(
            selection,
            n=n,
            ratio=config.data_ratio,
            seed=seed,
            epochs=None if epochs is None or epochs < 0 else epochs,
            space=space,
            ids=ids,
        )
    except SelectionError as error:
        unknown_end = selection.needs_epochs and (epochs is None or epochs < 0)
        key = "max_epochs" if unknown_end else "rela.selection"
        problem = Problem(key, str(error.expected), str(error.got), f"{error.what}; {error.fix}")
        raise ConfigError([problem]) from error
    except ValueError as error:
        fix = "raise rela.data_ratio"
        raise ConfigError([Problem("rela.data_ratio", "at least one sample an epoch", str(error), fix)]) from error
    from rela_zoo.selection.record import RecordedSubset, ReplayedSubset, SubsetWriter

    if isinstance(subset, ReplayedSubset) and source is not None and config.verify != 0:
        subset.check_pictures(source, required=config.verify == "required")
    if selection.record is not None and ranks.is_first():
        assert ids is not None
        return RecordedSubset(subset, SubsetWriter(selection.record, ids, subset, source))
    return subset
