"""`rela-zoo subset`: write the samples of each epoch, and read them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rela_zoo.cli._images import DATA_HELP, SkipUndecodable, Split, check_split, open_images

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.selection.record import ReplayedSubset

subset_app = typer.Typer(help="Which samples each epoch trains on, as files.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(subset_app, name="subset")


@subset_app.command("export")
def export_command(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder to write: subsets.json, and a parquet file for each epoch.")],
    epochs: Annotated[int, typer.Option(min=1, help="How many epochs to draw.")],
    data_ratio: Annotated[float, typer.Option(help="Fraction of the data in an epoch, in (0, 1].")] = 0.2,
    selection: Annotated[
        str, typer.Option(help="A policy, or a mapping with its options: '{name: balanced, clusters: 100}'.")
    ] = "uniform",
    prior: Annotated[str | None, typer.Option(help="Whose embeddings the policy looks at.")] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="Those embeddings. Default: found, or computed and cached.")
    ] = None,
    transport: Annotated[str | None, typer.Option(help="Their transport. Default: found, or fitted.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws; `rela.seed` of a run.")] = 0,
    split: Split = None,
    skip_undecodable: SkipUndecodable = False,
    as_json: AsJson = False,
) -> None:
    """Draw the samples of each epoch as a run would, and write their ids.

    Samples are counted in the order of their sorted paths, as class folders are read. What a run really drew, by
    any policy and in any order, is written by the run itself: rela.selection={name: …, record: FOLDER}.
    """
    section = {
        "prior": prior,
        "data_ratio": data_ratio,
        "selection": _parsed(selection),
        "embeddings": embeddings,
        "transport": transport,
    }
    try:
        given = {key: value for key, value in section.items() if value is not None}
        info = _export(given, lambda: open_images(data, skip_undecodable, split), out, epochs, seed)
    except KeyboardInterrupt:
        typer.echo("stopped; finished epochs are kept, and the same command writes the rest", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(info, indent=2))
        return
    typer.echo(
        f"{info['epochs']} epochs of {_sizes(info)} samples of {info['n']:,}, "
        f"{info['distinct']:,} different ones, by {info['selection']['name']} → {out}\n"
        f"train on them: rela.data_ratio={info['ratio']:g} 'rela.selection={{name: replay, path: {out}}}'"
    )


def _parsed(selection: str) -> Any:
    """A policy as written on the command line."""
    import yaml

    from rela_zoo.errors import ConfigError, Problem

    try:
        return yaml.safe_load(selection)
    except yaml.YAMLError:
        expected, fix = "the name of a policy, or a mapping in YAML", "write '{name: balanced, clusters: 100}'"
        raise ConfigError([Problem("--selection", expected, repr(selection), fix)]) from None


def _export(
    section: dict[str, Any], opened: Callable[[], ImageSource], out: Path, epochs: int, seed: int
) -> dict[str, Any]:
    import torch

    from rela_zoo._io.progress import Progress
    from rela_zoo.data import without
    from rela_zoo.engine import left_out_of, plan_rela, resolve_targets, run_subset
    from rela_zoo.errors import ConfigError, Problem, SelectionError
    from rela_zoo.selection.record import SubsetWriter, read_info

    plan = plan_rela(section)
    config = plan.config
    if config.selection.needs_losses:
        expected = "a policy that doesn't look at losses, which only a training has"
        fix = "train with rela.selection={name: loss, record: FOLDER}, which writes the same files"
        raise ConfigError([Problem("--selection", expected, config.selection.name, fix)])
    source = without(opened(), left_out_of(config))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    targets = None
    if config.selection.needs_embeddings:
        targets = resolve_targets(plan.only, source, device=device)
    subset = run_subset(config, n=len(source), seed=seed, epochs=epochs, source=source, targets=targets, device=device)
    writer = SubsetWriter(out, source.ids, subset, source)
    seen = torch.zeros(len(source), dtype=torch.bool)
    sizes = []
    with Progress("drawing", epochs, unit="epochs") as bar:
        for epoch in range(epochs):
            draw = subset.draw(epoch)
            writer.write(epoch, draw)
            seen[draw.indices] = True
            sizes.append(len(draw.indices))
            bar.advance(1)
    info = read_info(out)
    if info["epochs"] > epochs:
        raise SelectionError(
            f"{out} holds more epochs than were asked for",
            expected=f"{epochs}",
            got=f"{info['epochs']}",
            fix="name another folder, or remove this one",
        )
    return {**info, "smallest": min(sizes), "largest": max(sizes), "distinct": int(seen.sum()), "path": str(out)}


@subset_app.command("replay")
def replay_command(
    subsets: Annotated[Path, typer.Argument(help="A folder written by `export`, or by a run that records.")],
    epoch: Annotated[
        int | None, typer.Option(min=0, help="Print the samples of this epoch, in the order of training.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Check that all samples are in this data set; print positions in it, not ids.")
    ] = None,
    split: Split = None,
    skip_undecodable: SkipUndecodable = False,
    as_json: AsJson = False,
) -> None:
    """Read recorded subsets: what they are, or the samples of an epoch, a line each (id or position, then its weight).

    To train on them: rela.selection={name: replay, path: FOLDER}, and the data_ratio shown here.
    """
    from rela_zoo.errors import SelectionError
    from rela_zoo.selection.record import read_info

    check_split(data, split, "--data")
    info = read_info(subsets)
    source = None if data is None else open_images(data, skip_undecodable, split)
    if epoch is not None:
        if epoch >= info["epochs"]:
            raise SelectionError(
                f"there is no epoch {epoch} in {subsets}", expected=f"0 to {info['epochs'] - 1}", got=epoch,
                fix="name one of these; `rela-zoo subset replay FOLDER` alone shows them all",
            )  # fmt: skip
        _print_epoch(subsets, epoch, source, as_json)
        return
    counted = _count(subsets, info["epochs"], source)
    if as_json:
        typer.echo(json.dumps({**info, **counted}, indent=2))
        return
    typer.echo(
        f"{info['epochs']} epochs of {_sizes(counted)} samples, "
        f"{counted['distinct']:,} different ones of {info['n']:,}; drawn by {info['selection']['name']}, "
        f"data_ratio {info['ratio']:g}, seed {info['seed']}, {'weighted' if counted['weighted'] else 'not weighted'}"
        + ("" if source is None else f"\nall of them are in {source.describe()}")
    )


def _sizes(counted: dict[str, Any]) -> str:
    """`256`, or `128 to 384` where epochs differ."""
    smallest, largest = counted["smallest"], counted["largest"]
    return f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"


def _count(subsets: Path, epochs: int, source: ImageSource | None) -> dict[str, Any]:
    """Sizes, different samples, and whether there are weights; refuses samples that the data set has not."""
    from rela_zoo.selection.record import read_epoch

    replayed = _replayed(subsets, source) if source is not None else None
    seen: set[Any] = set()
    sizes, weighted = [], False
    for epoch in range(epochs):
        if replayed is None:
            ids, given = read_epoch(subsets, epoch)
            seen.update(ids)
            sizes.append(len(ids))
            weighted = weighted or bool((given != 1.0).any())
        else:
            indices, weights = replayed.draw(epoch)
            seen.update(indices.tolist())
            sizes.append(len(indices))
            weighted = weighted or weights is not None
    return {"smallest": min(sizes), "largest": max(sizes), "distinct": len(seen), "weighted": weighted}


def _replayed(subsets: Path, source: ImageSource) -> ReplayedSubset:
    """Recorded subsets of this data set; refuses those of other pictures."""
    from rela_zoo.selection.record import ReplayedSubset

    found = ReplayedSubset(subsets, source.ids)
    found.check_pictures(source)
    return found


def _print_epoch(subsets: Path, epoch: int, source: ImageSource | None, as_json: bool) -> None:
    from rela_zoo.selection.record import read_epoch

    samples: list[Any]
    samples, weights = read_epoch(subsets, epoch)
    if source is not None:
        samples = _replayed(subsets, source).draw(epoch).indices.tolist()
    if as_json:
        key = "ids" if source is None else "indices"
        typer.echo(json.dumps({"epoch": epoch, key: samples, "weights": weights.tolist()}))
        return
    for sample, weight in zip(samples, weights.tolist(), strict=True):
        typer.echo(f"{sample}\t{weight:g}")
