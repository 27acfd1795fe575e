"""`rela-zoo report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    folder: Annotated[Path, typer.Argument(help="Of a run: checkpoint.dir/METHOD/NAME-…", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="File to write; by default run.html in the run's folder.", show_default=False)
    ] = None,
) -> None:
    """Write one HTML page of a run: curves, stages, samples seen, artefacts, versions, and how to repeat it.

    The page needs nothing beside it. `pretrain` writes it at the end of a run; made here, it shows a run under way.
    """
    from rela_zoo.analysis.report import write_page

    typer.echo(f"page: {write_page(folder, output)}", err=True)
