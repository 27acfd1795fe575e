"""`rela-zoo transport`: fit, show, apply and chain transports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from rela_zoo.cli._parts import part_of
from rela_zoo.errors import TransportError

if TYPE_CHECKING:
    from rela_zoo.transport import PriorTransport, TargetTransport

_SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

transport_app = typer.Typer(help="Linear maps from embeddings to the targets of a student.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(transport_app, name="transport")


@transport_app.command("fit")
def fit_command(
    embeddings: Annotated[Path, typer.Argument(help="A folder written by `rela-zoo embed`.")],
    target: Annotated[
        Path | None,
        typer.Argument(help="Another prior's embeddings of the same samples: fit the map from the first to them."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="File to write, *.safetensors.")],
    method: Annotated[
        str, typer.Option(help="Between priors: ridge, procrustes (rotation and scale) or whitened (CCA).")
    ] = "ridge",
    max_dim: Annotated[
        int | None, typer.Option(min=1, help="Of a target transport: keep at most so many components.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 8192,
    device: Annotated[str | None, typer.Option(help="Where sums are made. Default: a GPU if there is one.")] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="See one part of the rows, i/n, beside other processes and machines that share "
            "the folder; `auto` reads it from SLURM, torchrun or srun. The last one writes the transport."
        ),
    ] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Default: only on a terminal.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a target transport (PCA and standardisation), or with a second table the map from one prior to another."""
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.transport import (
        fit_prior_transport,
        fit_prior_transport_part,
        fit_transport,
        fit_transport_part,
    )

    if target is not None and max_dim is not None:
        raise TransportError("--max-dim is for a target transport", expected="one table of embeddings", got="two")
    table, other = open_embeddings(embeddings), None if target is None else open_embeddings(target)
    show: bool | Literal["always"] = "always" if progress else progress is None
    common: dict[str, Any] = {"chunk": chunk, "device": device, "progress": show}
    made: TargetTransport | PriorTransport | None
    if part is not None:
        share = part_of(part)
        if other is None:
            made = fit_transport_part(table, out, share, max_dim=max_dim, **common)
        else:
            made = fit_prior_transport_part(table, other, out, share, method=cast("Any", method), **common)
        if made is None:
            said = f"part {share[0]} of {share[1]} is done; the last of the others writes the transport"
            typer.echo(json.dumps({"path": str(out), "finished": False}) if as_json else said)
            return
    else:
        if other is None:
            made = fit_transport(table, max_dim=max_dim, **common)
        else:
            made = fit_prior_transport(table, other, method=cast("Any", method), **common)
        made.save(out)
    _print_any(made, out, as_json)


@transport_app.command("show")
def show_command(
    file: Annotated[Path, typer.Argument(help="A file written by `rela-zoo transport`.")], as_json: AsJson = False
) -> None:
    """Show what a transport was fitted on, and how good it is."""
    from rela_zoo.transport import PriorTransport, TargetTransport, transport_kind

    kind = TargetTransport if transport_kind(file) == "target" else PriorTransport
    _print_any(kind.load(file), file, as_json)


@transport_app.command("apply")
def apply_command(
    file: Annotated[Path, typer.Argument(help="A file written by `rela-zoo transport`.")],
    embeddings: Annotated[Path, typer.Argument(help="A folder written by `rela-zoo embed`.")],
    out: Annotated[Path, typer.Option(help="Folder to write: embeddings again, with the same sample ids.")],
    dim: Annotated[int | None, typer.Option(min=1, help="Of a target transport: the leading components.")] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 8192,
) -> None:
    """Write the transported rows of a table as embeddings of their own (float32)."""
    from rela_zoo._io.digest import file_sha256
    from rela_zoo.embeddings import open_embeddings, write_rows
    from rela_zoo.prior import check_same_prior
    from rela_zoo.transport import PriorTransport, TargetTransport, check_target_fits, transport_kind

    table = open_embeddings(embeddings)
    preprocessing = table.info.preprocessing
    prior: dict[str, str | int] = {
        "id": str(table.info.prior.get("id", "")),
        "transport_sha256": file_sha256(file),
        "source": table.digest,
    }
    if transport_kind(file) == "target":
        target = TargetTransport.load(file)
        check_target_fits(target, table, str(file))
        pieces = (target(rows, dim=dim) for rows in table.iter_rows(chunk))
    else:
        between = PriorTransport.load(file)
        check_same_prior(
            table.info.identity,
            {**between.source.known, "dim": between.weight.shape[0]},
            f"{file} is not for the embeddings in {embeddings}",
            error=TransportError,
        )
        prior["id"], preprocessing = str(between.target.prior), between.target.preprocessing or preprocessing
        pieces = (between(rows) for rows in table.iter_rows(chunk))
    written = write_rows(
        out,
        pieces,
        table.ids,
        prior=prior,
        preprocessing=preprocessing,
        layer="transported",
        dtype="float32",
        samples=table.info.samples,
    )
    typer.echo(f"{written.shape[0]} × {written.shape[1]} rows → {out}")


@transport_app.command("chain")
def chain_command(
    first: Annotated[Path, typer.Argument(help="From a to b.")],
    second: Annotated[Path, typer.Argument(help="From b to c.")],
    source: Annotated[Path, typer.Argument(help="Embeddings by a.")],
    target: Annotated[Path, typer.Argument(help="Embeddings of the same samples by c.")],
    out: Annotated[Path, typer.Option(help="File to write, *.safetensors.")],
    as_json: AsJson = False,
) -> None:
    """Compose two transports between priors, and say what is lost against a direct fit."""
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.transport import PriorTransport, chain, fit_prior_transport

    a, c = open_embeddings(source), open_embeddings(target)
    through = chain(PriorTransport.load(first), PriorTransport.load(second), a, c)
    direct = fit_prior_transport(a, c)
    through.save(out)
    assert through.quality is not None
    assert direct.quality is not None
    lost = {"direct_r2": direct.quality.r2, "lost_r2": direct.quality.r2 - through.quality.r2}
    _print_between(through, out, as_json, **lost)


def _print_between(transport: PriorTransport, path: Path, as_json: bool, **more: float) -> None:
    quality = transport.quality
    facts: dict[str, Any] = {
        "path": str(path),
        "source": transport.source.prior,
        "target": transport.target.prior,
        "source_dim": transport.weight.shape[0],
        "target_dim": transport.weight.shape[1],
        "method": transport.method,
        "strength": transport.strength,
        "rows_fitted": transport.rows_fitted,
        "source_digest": transport.source.digest,
        "target_digest": transport.target.digest,
        **({} if quality is None else asdict(quality)),
        **more,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        typer.echo(f"{name.replace('_', ' '):<17}{shown}")
    if quality is None:
        typer.echo("quality          not measured")


def _print_any(transport: TargetTransport | PriorTransport, file: Path, as_json: bool) -> None:
    from rela_zoo.transport import TargetTransport

    if isinstance(transport, TargetTransport):
        _print(transport, file, as_json)
    else:
        _print_between(transport, file, as_json)


def _print(transport: TargetTransport, path: Path, as_json: bool) -> None:
    stats = transport.stats
    facts: dict[str, Any] = {
        "path": str(path),
        "prior": stats.prior,
        "preprocessing": stats.preprocessing,
        "rows": stats.rows,
        "dim": transport.dim,
        "components": transport.max_dim,
        "source_digest": stats.source_digest,
    }
    if as_json:
        facts["explained_variance_ratio"] = list(stats.explained_variance_ratio)
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<15}{'-' if value is None else value}")
    table = Table("components", "explained variance", "smallest deviation")
    for count in sorted({*(n for n in _SHOWN if n < transport.max_dim), transport.max_dim}):
        share = min(sum(stats.explained_variance_ratio[:count]), 1.0)
        table.add_row(str(count), f"{share:.1%}", f"{float(transport.scale[count - 1]):.4g}")
    Console().print(table)
