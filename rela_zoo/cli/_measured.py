"""What came with the package about priors, for the command line: always with the data that it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rela_zoo.registry import PriorMeasures, PriorSpec, ZooResults

_SEEN = {"labels": "has seen this data with its labels", "images": "has seen images of this data"}
_MARKS = {"labels": "†", "images": "‡"}


def measured_rows(spec: PriorSpec) -> list[tuple[str, str]]:
    """What `show` prints, as (label, text)."""
    from rela_zoo.registry import results_of

    rows = []
    for results, own in results_of(spec):
        parts = [f"{name} {100 * value:.1f} %" for name, value in _accuracies(results, own).items()]
        parts += [f"RankMe {own.rank_me:.1f} of {own.dim}"] if own.rank_me is not None else []
        parts += [_SEEN[own.seen]] if own.seen in _SEEN else []
        rows.append((f"on {results.data.name}", f"{results.data.title}: {', '.join(parts)}"))
        away = sorted((one for one in results.pairs if one.source == spec.id), key=lambda one: -one.r2)
        if away:
            best = ", ".join(f"{one.target} {one.r2:.2f}" for one in away)
            rows.append(("", f"transports to others, held-out R²: {best}"))
        if own.transport is not None:
            kept = own.transport
            rows.append(("", f"target transport, {kept.components} of {own.dim}: {results.path_of(kept)}"))
    return rows


def measured_facts(spec: PriorSpec) -> dict[str, Any]:
    """The same for programs: data set → what was measured there, and the transports that begin at the prior."""
    from rela_zoo.registry import results_of

    found = {}
    for results, own in results_of(spec):
        away = {
            one.target: one.model_dump(exclude_none=True, exclude={"source", "target"})
            for one in results.pairs
            if one.source == spec.id
        }
        data = results.data.model_dump(exclude_none=True)
        found[results.data.name] = {"data": data, **own.model_dump(exclude_none=True), "transports_to": away}
    return found


def print_measured(specs: Sequence[PriorSpec]) -> None:
    """A table of accuracies, priors down, data sets across; nothing where nothing is known."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from rela_zoo.registry import results_of

    known = {spec.id: {results.data.name: (results, own) for results, own in results_of(spec)} for spec in specs}
    sets: dict[str, ZooResults] = {}
    for one in known.values():
        sets |= {name: results for name, (results, _) in one.items()}
    if not sets:
        return
    heads = [
        f"{name} {word}" for name, results in sets.items() for word in (f"{results.settings.neighbours}-NN", "probe")
    ]
    title = "Measured before, held out, %"
    table = Table("prior", *heads, title=title, title_justify="left", box=SIMPLE_HEAD)
    for spec in specs:
        cells = []
        for name in sets:
            _, own = known[spec.id].get(name, (None, None))
            cells += ["–", "–"] if own is None else [_cell(own.knn, own), _cell(own.probe, own)]
        table.add_row(spec.id, *cells)
    Console().print(table)
    _explain(list(sets.values()), [own for one in known.values() for _, own in one.values()])


def print_pairs(found: Sequence[tuple[ZooResults, list[str]]]) -> None:
    """A table a data set: held-out R² of the transports between priors."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    for results, names in found:
        title = f"Measured before on {results.data.name}: held-out R², row → column"
        across = [str(number) for number in range(1, len(names) + 1)]
        table = Table("row → column", *across, title=title, title_justify="left", box=SIMPLE_HEAD)
        for number, source in enumerate(names, 1):
            pairs = [results.pair(source, target) for target in names]
            mark = _MARKS.get(results.priors[source].seen, "")
            table.add_row(f"{number} {source}{mark}", *("–" if one is None else f"{one.r2:.3f}" for one in pairs))
        Console().print(table)
    _explain([one for one, _ in found], [results.priors[name] for results, names in found for name in names])


def pair_facts(found: Sequence[tuple[ZooResults, list[str]]]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "data": results.data.model_dump(exclude_none=True),
            "priors": {name: results.priors[name].model_dump(exclude_none=True) for name in names},
            "pairs": [
                one.model_dump(exclude_none=True) for one in results.pairs if {one.source, one.target} <= set(names)
            ],
        }
        for results, names in found
    ]


def _explain(sets: Sequence[ZooResults], priors: Sequence[PriorMeasures]) -> None:
    for one in sets:
        typer.echo(f"{one.data.name}: {one.data.title}")
    for kind in sorted({one.seen for one in priors} & _MARKS.keys()):
        typer.echo(f"{_MARKS[kind]} {_SEEN[kind]}")


def _accuracies(results: ZooResults, own: PriorMeasures) -> dict[str, float]:
    settings = results.settings
    found = {
        f"{settings.neighbours}-NN": own.knn,
        "linear probe": own.probe,
        f"{settings.per_class} labels a class": own.few_label,
    }
    return {name: value for name, value in found.items() if value is not None}


def _cell(value: float | None, own: PriorMeasures) -> str:
    return "–" if value is None else f"{100 * value:.1f}{_MARKS.get(own.seen, '')}"
