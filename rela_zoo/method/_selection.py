"""The subsets of a run: its policy, given what the policy looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rela_zoo.config import RelaConfig
from rela_zoo.errors import ConfigError, Problem, SelectionError
from rela_zoo.method._artefacts import Targets, wait_for
from rela_zoo.subset import Subset

if TYPE_CHECKING:
    from rela_zoo.embeddings import ImageSource


def run_subset(
    config: RelaConfig,
    trainer: Any,
    n: int,
    seed: int,
    source: ImageSource | None,
    targets: Targets | None,
    say: Callable[[str], None],
) -> Subset:
    """The subsets that a run trains on, recorded if the configuration says so.

    Args:
        config: of the run.
        trainer: of the run; asked for its number of epochs, rank and device.
        n: samples of the data set.
        seed: of the draws.
        source: the samples by id; needed to replay or record.
        targets: the prior's rows; needed by policies that look at them.
        say: takes lines of text for the user.

    Raises:
        ConfigError: a curriculum without a number of epochs, or recorded subsets that don't fit.
        SelectionError: the folder to record to holds other subsets.
    """
    from rela_zoo.selection import build_subset

    selection, epochs = config.selection, trainer.max_epochs
    space = None
    if selection.needs_embeddings:
        from rela_zoo.selection.space import TableSpace

        assert targets is not None
        space = TableSpace(
            targets.table,
            targets.transport,
            targets.positions,
            device=trainer.strategy.root_device,
            wait=None if trainer.global_rank == 0 else wait_for,
            say=say,
        )
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
        key = "max_epochs" if selection.name == "curriculum" else "rela.selection"
        problem = Problem(key, str(error.expected), str(error.got), f"{error.what}; {error.fix}")
        raise ConfigError([problem]) from error
    except ValueError as error:
        fix = "raise rela.data_ratio"
        raise ConfigError([Problem("rela.data_ratio", "at least one sample an epoch", str(error), fix)]) from error
    if selection.record is not None and trainer.global_rank == 0:
        from rela_zoo.selection.record import RecordedSubset, SubsetWriter

        assert ids is not None
        return RecordedSubset(subset, SubsetWriter(selection.record, ids, subset))
    return subset
