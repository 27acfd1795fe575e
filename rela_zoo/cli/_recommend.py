"""`rela-zoo recommend`: which prior for this data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rela_zoo._io.text import format_bytes, format_duration
from rela_zoo.cli._images import SkipUndecodable, Split, open_images
from rela_zoo.cli._measured import measured_facts, print_measured

if TYPE_CHECKING:
    from rela_zoo.analysis.recommend import Assessment

_CONFIG = """\
# Written by `rela-zoo recommend`. Use: rela-zoo pretrain --config-path {folder} --config-name {name}
defaults:
  - byol
  - _self_
data:
  train_path: {data}
  on_error: {on_error}
rela:
  prior: {prior}
  data_ratio: 0.2
"""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("recommend")(recommend_command)


def recommend_command(
    dataset: Annotated[str, typer.Option(help="An image folder, a parquet file, ….")],
    priors: Annotated[
        list[str] | None, typer.Argument(help="Names or YAML entries. Default: every prior whose weights are here.")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Use the classes of an image folder.")] = False,
    sample: Annotated[int, typer.Option(min=100, help="Images to judge by.")] = 1000,
    config: Annotated[Path | None, typer.Option(help="Write a configuration with the best prior here, *.yaml.")] = None,
    seed: Annotated[int, typer.Option(help="Of the augmented views.")] = 0,
    split: Split = None,
    skip_undecodable: SkipUndecodable = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Rank priors for a data set before any training, and say what embedding all of it would cost."""
    from rela_zoo.analysis.recommend import recommend
    from rela_zoo.registry import prior_spec

    if config is not None and split not in (None, "train"):
        raise typer.BadParameter("expected train, or none: a training takes the split train", param_hint="--split")
    source = open_images(dataset, skip_undecodable, split)
    found = recommend(source, priors or None, sample=sample, labelled=labels, seed=seed, progress=True)
    if config is not None:
        config.parent.mkdir(parents=True, exist_ok=True)
        text = _CONFIG.format(
            folder=config.parent,
            name=config.stem,
            data=json.dumps(dataset),
            on_error="skip" if skip_undecodable else "raise",
            prior=json.dumps(found[0][0].prior),
        )
        config.write_text(text, encoding="utf-8")
    if as_json:
        facts = [
            {**asdict(one), "mean_rank": rank, "measured": measured_facts(prior_spec(one.prior))} for one, rank in found
        ]
        typer.echo(json.dumps(facts, indent=1))
        return
    _print(found, min(sample, len(source)), len(source))
    print_measured([prior_spec(one.prior) for one, _ in found])
    if config is not None:
        typer.echo(f"written: {config}")


def _print(found: list[tuple[Assessment, float]], sample: int, images: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from rela_zoo.analysis.recommend import LABELLED, UNLABELLED

    shown = {"rank_me": "RankMe", "agreement": "agree", "stability": "stable", "log_me": "LogME", "h_score": "H"}
    keys = list(found[0][0].scores)
    scores = Table("prior", "rank", *(shown.get(key, key) for key in keys), box=SIMPLE_HEAD)
    costs = Table("prior", "dim", "images/s", "embedding all takes", "and gives", box=SIMPLE_HEAD)
    for one, rank in found:
        values = (f"{one.scores[key]:.1f}" if key == "rank_me" else f"{one.scores[key]:.2f}" for key in keys)
        scores.add_row(one.prior, f"{rank:.1f}", *values)
        size = format_bytes(one.embed_bytes)
        costs.add_row(one.prior, str(one.dim), f"{one.images_per_second:.0f}", format_duration(one.embed_seconds), size)
    console = Console()
    console.print(scores, costs)
    for key in keys:
        typer.echo(f"{shown.get(key, key):<8}{ {**UNLABELLED, **LABELLED}[key] }")
    typer.echo(f"judged on {sample} of {images} images; rank is the mean over the measures that count, 1 is best")
