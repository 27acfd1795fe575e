"""Build a zoo: every prior on every data set, and every pair of priors, cell by cell."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from rela_zoo._io.environment import environment
from rela_zoo._io.files import atomic_write
from rela_zoo._io.lock import locked
from rela_zoo._io.log import logger
from rela_zoo.analysis.zoo._cells import (
    Cell,
    Places,
    ZooPrior,
    all_cells,
    chosen_cells,
    read_record,
    write_record,
    zoo_prior,
)
from rela_zoo.analysis.zoo._data import ZooData
from rela_zoo.analysis.zoo._measure import forget, make_pair_cell, make_prior_cell
from rela_zoo.errors import RegistryError, RelaZooError
from rela_zoo.prior import readiness
from rela_zoo.registry import RESULTS_FORMAT, Settings, ZooResults, list_priors, prior_spec

log = logger(__name__)

SMALL_BYTES = 100_000
_DEFAULTS = Settings()


@dataclass(frozen=True)
class Zoo:
    """What is to be built, checked as a whole before anything is made.

    Attributes:
        priors, data: what on what.
        places: where.
        settings: of the measures.
        cells: all that belong to it.
        chosen: those to be made now.
        small_bytes: the largest transport that is kept among the small results, in half precision.
        again: make the chosen cells anew although they are finished.
    """

    priors: list[ZooPrior]
    data: list[ZooData]
    places: Places
    settings: Settings
    cells: list[Cell]
    chosen: list[Cell]
    small_bytes: int
    again: bool

    def is_finished(self, cell: Cell) -> bool:
        """Whether a cell need not be made."""
        return read_record(self.places, cell) is not None and not (self.again and cell in self.chosen)


def plan_zoo(
    priors: Sequence[str],
    data: Sequence[ZooData],
    out: Path,
    *,
    cells: Sequence[str] = (),
    again: bool = False,
    settings: Settings = _DEFAULTS,
    small_bytes: int = SMALL_BYTES,
) -> Zoo:
    """Look everything up that a zoo needs, and make nothing.

    Args:
        priors: names, YAML entries; empty for every registered prior that loads here without a network.
        data: opened data sets.
        out: the folder of the zoo.
        cells: patterns of those to make; all by default.
        again: make these anew although they are finished.
        settings: of the measures.
        small_bytes: the largest transport that is kept among the small results.

    Raises:
        RegistryError: unknown or repeated names, or a pattern that names nothing.
        WeightsError: weights that are not in reach, all of them named.
    """
    names = list(priors) or [one.id for one in list_priors() if readiness(one) == "yes"]
    found, wrong = [], []
    for name in names:
        try:
            found.append(zoo_prior(name, prior_spec(name)))
        except RelaZooError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise RegistryError(
            f"{len(wrong)} of {len(names)} priors can't be had here",
            got="\n" + "\n".join(f"            {one.what}" for one in wrong),
            fix="leave them out, or do for each what `rela-zoo show NAME` says",
        )
    for what, given in (("prior", [one.id for one in found]), ("data set", [one.about.name for one in data])):
        if len(set(given)) < len(given) or not given:
            raise RegistryError(f"a zoo needs every {what} once", expected="different names", got=", ".join(given))
    every = all_cells(found, list(data), settings)
    chosen = chosen_cells(every, list(cells))
    return Zoo(found, list(data), Places(out), settings, every, chosen, small_bytes, again)


def build_zoo(
    zoo: Zoo, *, command: str = "", device: str | None = None, progress: bool | Literal["always"] = True
) -> list[ZooResults]:
    """Make what is not made yet, and write the results.

    Stopped at any moment, by Ctrl-C or a kill, and called again, it goes on with the cell that it was at; in that cell
    the embeddings go on with the shard that they were at.

    Args:
        zoo: as planned.
        command: that makes it again, for the results.
        device: where priors run and sums are made; a GPU if there is one.
        progress: as for `embed`.

    Returns:
        the results of every data set of which a prior is finished, as they were written.
    """
    places = zoo.places
    with locked(places.out, what="a zoo"):
        todo = [cell for cell in zoo.chosen if not zoo.is_finished(cell)]
        todo = _with_what_they_need(zoo, todo)
        log.info("%d cells, %d to be made", len(zoo.chosen), len(todo))
        machine = {"command": command, "environment": environment()}
        for number, cell in enumerate(todo, 1):
            log.info("%d of %d: %s", number, len(todo), cell.name)
            started = time.monotonic()
            if zoo.again and cell in zoo.chosen:
                forget(places, cell)
            if len(cell.priors) == 1:
                found, files = make_prior_cell(
                    places, cell, zoo.settings, device=device, small_bytes=zoo.small_bytes, progress=progress
                )
                measured: dict[str, Any] = {"prior": found}
            else:
                pairs, files = make_pair_cell(places, cell, zoo.settings, device=device, small_bytes=zoo.small_bytes)
                measured = {"pairs": pairs}
            made = {
                "date": datetime.now(timezone.utc).date().isoformat(),
                "seconds": round(time.monotonic() - started, 2),
            }
            write_record(places, cell, {"machine": machine, "made": made, **measured}, files)
            if number < len(todo) and todo[number].data is not cell.data:
                _write(zoo, cell.data)
        return write_results(zoo)


def write_results(zoo: Zoo) -> list[ZooResults]:
    """Gather what is finished into one file a data set; nothing for one without a finished prior."""
    found = [_write(zoo, data) for data in zoo.data]
    return [one for one in found if one is not None]


def _write(zoo: Zoo, data: ZooData) -> ZooResults | None:
    found = _gathered(zoo, data)
    if found is None:
        return None
    path = zoo.places.results / f"{data.about.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (found.model_dump_json(indent=1, exclude_none=True) + "\n").encode())
    return found.found_in(path.parent)


def _with_what_they_need(zoo: Zoo, todo: list[Cell]) -> list[Cell]:
    """A pair needs both of its priors."""
    wanted = {cell.name for cell in todo}
    needed = {f"{cell.data.about.name}/{prior.id}" for cell in todo if len(cell.priors) == 2 for prior in cell.priors}
    return [
        cell
        for cell in zoo.cells
        if cell.name in wanted or (cell.name in needed and read_record(zoo.places, cell) is None)
    ]


def _gathered(zoo: Zoo, data: ZooData) -> ZooResults | None:
    machines: list[dict[str, Any]] = []
    priors: dict[str, Any] = {}
    pairs: list[dict[str, Any]] = []
    for cell in zoo.cells:
        record = read_record(zoo.places, cell) if cell.data is data else None
        if record is None:
            continue
        if record["machine"] not in machines:
            machines.append(record["machine"])
        made = {**record["made"], "machine": machines.index(record["machine"])}
        if len(cell.priors) == 1:
            priors[cell.priors[0].id] = {**record["prior"], "made": made}
        else:
            pairs += [{**one, "made": made} for one in record["pairs"]]
    if not priors:
        return None
    return ZooResults.model_validate(
        {
            "format": RESULTS_FORMAT,
            "data": data.facts().model_dump(),
            "settings": zoo.settings.model_dump(),
            "machines": machines,
            "priors": priors,
            "pairs": [one for one in pairs if {one["source"], one["target"]} <= priors.keys()],
        }
    )


def as_json(found: Sequence[ZooResults]) -> str:
    """Results for programs."""
    return json.dumps([one.model_dump(mode="json", exclude_none=True) for one in found], indent=1)
