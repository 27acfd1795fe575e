"""`rela-zoo transport`: fit a target transport on embeddings, and show one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rela_zoo.transport import TargetTransport

_SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

transport_app = typer.Typer(help="Linear maps from embeddings to the targets of a student.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(transport_app, name="transport")


@transport_app.command("fit")
def fit_command(
    embeddings: Annotated[Path, typer.Argument(help="A folder written by `rela-zoo embed`.")],
    out: Annotated[Path, typer.Option(help="File to write, *.safetensors.")],
    max_dim: Annotated[
        int | None, typer.Option(min=1, help="Keep at most so many components. Default: all that vary.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 8192,
    device: Annotated[str | None, typer.Option(help="Where sums are made. Default: a GPU if there is one.")] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Default: only on a terminal.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit PCA and standardisation on embeddings, in one pass."""
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.transport import fit_transport

    transport = fit_transport(
        open_embeddings(embeddings),
        max_dim=max_dim,
        chunk=chunk,
        device=device,
        progress="always" if progress else progress is None,
    )
    transport.save(out)
    _print(transport, out, as_json)


@transport_app.command("show")
def show_command(
    file: Annotated[Path, typer.Argument(help="A file written by `rela-zoo transport fit`.")], as_json: AsJson = False
) -> None:
    """Show what a transport was fitted on, and how much of the variance its components hold."""
    from rela_zoo.transport import TargetTransport

    _print(TargetTransport.load(file), file, as_json)


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
