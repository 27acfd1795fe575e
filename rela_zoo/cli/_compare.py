"""`rela-zoo compare`: how alike priors are on a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rela_zoo.cli._images import SkipUndecodable, Split, check_split, open_images
from rela_zoo.cli._measured import pair_facts, print_pairs
from rela_zoo.errors import RegistryError, RelaZooError, TransportError

if TYPE_CHECKING:
    from rela_zoo.analysis.compare import Comparison
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.registry import ZooResults

_TABLES = ("linear_cka", "transport_r2")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("compare")(compare_command)


def compare_command(
    priors: Annotated[
        list[str],
        typer.Argument(help="Names from `rela-zoo list`, YAML entries, or folders written by `rela-zoo embed`."),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="An image folder, a parquet file, …; not needed for folders of embeddings.")
    ] = None,
    transport: Annotated[
        list[Path] | None,
        typer.Option(help="A transport between two of the priors, pulled or made elsewhere, to judge beside them."),
    ] = None,
    sample: Annotated[int, typer.Option(min=200, help="Samples for similarities; transports use all.")] = 5000,
    figure: Annotated[Path | None, typer.Option(help="Write heat maps and spectra here, *.png.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    device: Annotated[str | None, typer.Option(help="Where priors run. Default: a GPU if there is one.")] = None,
    split: Split = None,
    skip_undecodable: SkipUndecodable = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare priors on the same images: similarities, transports between all pairs, spectra, dimensions.

    Without images, what came with the package about these priors is shown, and on which data it was measured.
    """
    check_split(dataset, split, "--dataset")
    known = _measured_before(priors)
    if dataset is None and known and not (figure or html or transport):
        typer.echo(json.dumps({"measured": pair_facts(known)}, indent=1) if as_json else "nothing is measured now")
        if not as_json:
            print_pairs(known)
        return
    from rela_zoo.analysis.compare import compare, render_figure, render_page
    from rela_zoo.prior import identity_differences

    tables: dict[str, EmbeddingTable] = {}
    # Opened once, and only if a name needs them.
    images = cache(lambda: open_images(str(dataset), skip_undecodable, split))
    for name in priors:
        label, table = _table(name, images if dataset is not None else None, device)
        if label in tables and identity_differences(tables[label].info.identity, table.info.identity):
            label = f"{label} ({name})"  # of one name, and another prior or preprocessing
        if label in tables:
            raise RegistryError(f"{label!r} is given twice", expected="different priors", fix="leave one out")
        tables[label] = table
    judged = [_judged(file, tables) for file in transport or ()]
    found = compare(tables, sample=sample, progress=True)
    if figure is not None or html is not None:
        image = render_figure(found)
        if figure is not None:
            figure.parent.mkdir(parents=True, exist_ok=True)
            figure.write_bytes(image)
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(render_page(found, image, dataset or "the embedded samples"), encoding="utf-8")
    known = _measured_before([one.info.prior.get("id", "") for one in tables.values()], tables)
    if as_json:
        facts = {**found.as_dict(), "given_transports": judged, "measured": pair_facts(known)}
        typer.echo(json.dumps(facts, indent=1))
        return
    _print(found)
    print_pairs(known)
    for one in judged:
        direct = found.pairs["transport_r2"][found.names.index(one["source"])][found.names.index(one["target"])]
        typer.echo(f"{one['path']}: {one['source']} → {one['target']}, R² {one['r2']:.3f}; fitted here {direct:.3f}")
    for path in (figure, html):
        if path is not None:
            typer.echo(f"written: {path}")


def _measured_before(
    names: Sequence[Any], tables: Mapping[str, EmbeddingTable] | None = None
) -> list[tuple[ZooResults, list[str]]]:
    """What came with the package about at least two of these priors: results, and which of the priors they have.

    Args:
        names: ids, or whatever `prior_spec` takes; others have no results.
        tables: embeddings by them, which must be by the very priors that were measured.
    """
    from rela_zoo.registry import packaged_results, prior_spec

    ids = []
    for name in names:
        if (Path(name) / "index.json").is_file():
            return []
        with suppress(RelaZooError):
            ids.append(prior_spec(name).id)
    found = []
    for results in packaged_results():
        own = [one for one in dict.fromkeys(ids) if one in results.priors]
        if tables is not None:
            from rela_zoo.prior import identity_differences

            same = {str(table.info.prior.get("id")): table.info.identity for table in tables.values()}
            own = [one for one in own if not identity_differences(same[one], results.priors[one].identity)]
        if len(own) > 1:
            found.append((results, own))
    return found


def _judged(file: Path, tables: dict[str, EmbeddingTable]) -> dict[str, Any]:
    """A transport of a file on the tables of the two priors that it belongs to."""
    from rela_zoo.prior import identity_differences
    from rela_zoo.transport import PriorTransport, judge

    transport = PriorTransport.load(file)
    ends = []
    for side, dim in zip((transport.source, transport.target), transport.weight.shape, strict=True):
        known = {**side.known, "dim": dim}
        differ = {name: identity_differences(table.info.identity, known) for name, table in tables.items()}
        fits = [name for name, fields in differ.items() if not fields]
        if not fits:
            name, fields = min(differ.items(), key=lambda one: len(one[1]))
            raise TransportError(
                f"{file} is of a prior that is not compared: {', '.join(fields)} differ{'s' * (len(fields) == 1)}",
                expected=", ".join(f"{one} {tables[name].info.identity[one]}" for one in fields),
                got=", ".join(f"{one} {known[one]}" for one in fields),
                fix=f"name the prior {side.prior} among those to compare, or leave this transport out",
            )
        ends.append(fits[0])
    quality = judge(transport, tables[ends[0]], tables[ends[1]])
    return {"path": str(file), "source": ends[0], "target": ends[1], **asdict(quality)}


def _table(name: str, images: Callable[[], ImageSource] | None, device: str | None) -> tuple[str, EmbeddingTable]:
    """A prior's label and its embeddings: of a folder, or of the data set from the cache, made there when missing."""
    from rela_zoo.embeddings import cached_embeddings, open_embeddings
    from rela_zoo.prior import load_prior

    if (Path(name) / "index.json").is_file():
        table = open_embeddings(name)
        return str(table.info.prior.get("id", name)), table
    if images is None:
        raise RegistryError(
            f"{name!r} is not a folder of embeddings, and no data set is given",
            expected="--dataset DIR",
            fix="add --dataset, or give folders written by `rela-zoo embed`",
        )
    prior = load_prior(name)
    return prior.spec.id, cached_embeddings(prior, images(), device=device)


def _print(found: Comparison) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from rela_zoo.analysis.compare import PAIR_MEASURES

    console = Console()
    spaces = Table(
        "prior", "dim", "RankMe", "particip.", "TwoNN", title="Spaces", title_justify="left", box=SIMPLE_HEAD
    )
    for number, (name, space) in enumerate(zip(found.names, found.spaces, strict=True), 1):
        values = (space.effective_rank, space.participation_ratio, space.intrinsic_dimension)
        spaces.add_row(f"{number} {name}", str(space.dim), *(f"{value:.1f}" for value in values))
    console.print(spaces)
    for key in _TABLES:
        # Numbers instead of names across, or more than a few priors would not fit a terminal.
        across = [str(number) for number in range(1, len(found.names) + 1)]
        table = Table("row → column", *across, title=PAIR_MEASURES[key], title_justify="left", box=SIMPLE_HEAD)
        for number, (name, row) in enumerate(zip(found.names, found.pairs[key], strict=True), 1):
            table.add_row(f"{number} {name}", *("–" if value != value else f"{value:.3f}" for value in row))
        console.print(table)
    typer.echo(f"{found.samples} samples in common; similarities on {found.sampled} of them; --json has every measure")
    if found.caution:
        typer.echo(found.caution)
