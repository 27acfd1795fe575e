"""`rela-zoo pull`, `fetch` and `search`: what others have published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rela_zoo._io.log import speak
from rela_zoo._io.text import format_bytes
from rela_zoo.cli._complete import priors
from rela_zoo.cli._images import Split, check_split, open_images
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from rela_zoo.hub import Artefact

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pull", rich_help_panel="Sharing")(pull_command)
    app.command("resolve", rich_help_panel="Sharing")(resolve_command)
    app.command("fetch", rich_help_panel="Sharing")(fetch_command)
    app.command("search", rich_help_panel="Sharing")(search_command)


def pull_command(
    prior: Annotated[
        str,
        typer.Argument(
            help="A name, hf://org/name@<commit> (or a tag), or the page of a repository.", autocompletion=priors
        ),
    ],
    dataset: Annotated[str | None, typer.Option(help="Whose embeddings and transport; `rela-zoo show` lists.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="PRIOR", help="The transport to this other prior, and nothing else.")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="The prior's weights too.")] = False,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard of the embeddings; may be repeated.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Only the shards that hold these images: a folder, parquet files, tars, …, as for `embed`."),
    ] = None,
    split: Split = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="Only the shards that hold these samples: a text file with an id a line, .jsonl, or .parquet with a "
            "column id."
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DIR", help="A folder or fsspec address to look in before the Hub, as RELA_ZOO_MIRROR."
        ),
    ] = None,
    signature: Annotated[
        list[str] | None,
        typer.Option(
            "--require-signature",
            metavar="IDENTITY",
            help="Refuse what is not signed by this public key, or one of a file; may be repeated.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Downloads at once.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Fetch published embeddings and transport of a prior into the Hub's cache, checked by hash.

    Afterwards a run with this prior on this data uses them, also without a network.
    """
    from rela_zoo.remote import MIRROR_VARIABLE, require_signature

    if mirror is not None:
        os.environ[MIRROR_VARIABLE] = mirror
    samples = _samples(shard, data, split, ids)
    with require_signature(signature) if signature else nullcontext():
        _pull(prior, dataset, to, weights, shard, samples, workers, as_json)


def _samples(shard: list[int] | None, data: str | None, split: str | None, ids: Path | None) -> Sequence[str] | None:
    """Ids of the samples whose shards are wanted; None for all."""
    if sum(one is not None for one in (shard or None, data, ids)) > 1:
        raise typer.BadParameter("expected one of --shard, --data and --ids")
    check_split(data, split, "--data")
    if data is not None:
        return open_images(data, False, split).ids
    return None if ids is None else _read_ids(ids.expanduser())


def _read_ids(path: Path) -> list[str]:
    """The ids in a file, each once.

    Raises:
        RelaZooError: it can't be read, or holds something else.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            found = pq.read_table(path, columns=["id"]).column("id").to_pylist()
        else:
            # By "\n" alone: an id may hold what Unicode calls a line break.
            lines = [one.removesuffix("\r") for one in path.read_bytes().decode("utf-8").split("\n")]
            found = [json.loads(one) if path.suffix == ".jsonl" else one for one in lines if one.strip(" \t")]
            found = [one.get("id") if isinstance(one, dict) else one for one in found]
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        got: object = f"{type(error).__name__}: {error}"
    else:
        if found and all(isinstance(one, str) for one in found):
            return list(dict.fromkeys(found))
        got = "no ids" if not found else f"{next(one for one in found if not isinstance(one, str))!r}"
    raise RelaZooError(
        f"{path} holds no sample ids", expected="an id a line, JSON strings in .jsonl, or .parquet with a column id",
        got=got, fix="`ids.jsonl` of the embeddings shows what ids look like",
    )  # fmt: skip


def _pull(
    prior: str,
    dataset: str | None,
    to: str | None,
    weights: bool,
    shard: list[int] | None,
    samples: Sequence[str] | None,
    workers: int,
    as_json: bool,
) -> None:
    from rela_zoo.hub import pull

    if to is not None:
        if weights or shard or samples:
            raise typer.BadParameter("expected no --weights, --shard, --data or --ids beside it", param_hint="--to")
        _pull_between(prior, to, dataset, as_json)
        return
    what: Any = ("embeddings", "transport", "weights") if weights else ("embeddings", "transport")
    if not as_json:
        speak("stdout")
    pulled = pull(prior, dataset, what=what, shards=shard or None, ids=samples, workers=workers, progress=not as_json)
    facts = {
        "prior": pulled.spec.id,
        "name": pulled.name,
        "dataset": pulled.dataset,
        "bytes": pulled.bytes,
        "embeddings": str(pulled.embeddings) if pulled.embeddings else None,
        "shards": pulled.shards,
        "transport": str(pulled.transport) if pulled.transport else None,
        "weights": str(pulled.weights) if pulled.weights else None,
        "artefacts": [asdict(one) for one in pulled.artefacts],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for key in ("embeddings", "transport", "weights"):
        if facts[key]:
            typer.echo(f"{key:10} {facts[key]}")
    if pulled.shards is not None:
        typer.echo(f"only the shards {', '.join(map(str, pulled.shards))}: open_embeddings(…, partial=True)")
    typer.echo(f"to train with it: rela.prior={pulled.name}")
    typer.echo(f"{format_bytes(pulled.bytes)} of {pulled.spec.id}, every file checked by sha256")
    _signed_by(pulled.artefacts)


def _signed_by(artefacts: Iterable[Artefact]) -> None:
    for identity in sorted({one.signed_by for one in artefacts if one.signed_by}):
        typer.echo(f"signed by {identity}")


def _pull_between(source: str, target: str, dataset: str | None, as_json: bool) -> None:
    from rela_zoo.hub import at_commit, pull_between

    pulled = pull_between(at_commit(source), at_commit(target), dataset)
    quality = pulled.transport.quality
    if as_json:
        facts = {
            "source": pulled.transport.source.prior,
            "target": pulled.transport.target.prior,
            "dataset": pulled.dataset,
            "between": str(pulled.path),
            "r2": quality.r2 if quality is not None else None,
            "artefacts": [asdict(pulled.artefact)],
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"between    {pulled.path}")
    held_out = f", held-out R² {quality.r2:.3f}" if quality is not None else ""
    typer.echo(f"{pulled.transport.source.prior} → {pulled.transport.target.prior}, {pulled.dataset}{held_out}")
    _signed_by([pulled.artefact])


def resolve_command(
    name: Annotated[str, typer.Argument(help="hf://org/name, with a tag (@v1) or without; or the repository's page.")],
) -> None:
    """Print a repository's name with its full commit, as a run wants it: hf://org/name@ and 40 digits."""
    from rela_zoo.hub import at_commit
    from rela_zoo.remote import parse_address

    address = at_commit(name)
    parse_address(address)
    typer.echo(address)


def fetch_command(
    config: Annotated[str, typer.Argument(help="A configuration of `rela-zoo pretrain`, or a path to a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as for the run itself.")] = None,
) -> None:
    """Fetch all that a run needs, where there is a network, for a machine where there is none.

    With the training data in reach, published embeddings of exactly these samples are fetched; else everything that
    is published of the prior. Where nothing is, its weights.
    """
    from rela_zoo.engine import fetch_for_run, plan_rela
    from rela_zoo.hosts.builtin.compose import compose

    speak("stdout")
    path = Path(config)
    is_file = path.suffix in (".yaml", ".yml")
    cfg: Any = compose(path.stem if is_file else config, path.parent if is_file else None, list(overrides or ()))
    section = cfg.get("rela")
    if section is None:
        typer.echo("this run has no `rela` section: it needs nothing of a prior")
        return
    from omegaconf import OmegaConf

    data, on_error = OmegaConf.select(cfg, "data.train_path"), OmegaConf.select(cfg, "data.on_error")
    for line in fetch_for_run(plan_rela(section), data, "skip" if on_error == "skip" else "raise"):
        typer.echo(line)


def search_command(
    query: Annotated[str | None, typer.Argument(help="Words in name, title or data sets.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the priors that others have published on the Hub."""
    from rela_zoo.hub import search

    found = search(query, limit=limit)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    if not found:
        typer.echo("nothing found")
    for one in found:
        flags = f"  [{', '.join(one.flags)}]" if one.flags else ""
        typer.echo(one.name)
        if one.title:
            typer.echo(f"    {one.title}" + (f", {one.dim} features" if one.dim else ""))
        for name, size in one.datasets.items():
            typer.echo(f"    embeddings of {name}: {size.rows:,} rows, {format_bytes(size.bytes)}")
        typer.echo(f"    {one.licence or 'no licence'}, {one.downloads:,} downloads, {one.modified}{flags}")
