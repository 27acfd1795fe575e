"""`rela-zoo demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        output: Annotated[Path, typer.Option(help="Folder for data, artefacts, results.json and figure.png.")] = Path(
            "rela_zoo_demo"
        ),
        seed: Annotated[int, typer.Option(min=0, help="Of students, subsets and views.")] = 0,
        epochs: Annotated[
            int | None, typer.Option(min=1, help="Of each training; the default is what the demo is tuned for.")
        ] = None,
        fresh: Annotated[bool, typer.Option(help="Throw away what an earlier call has trained.")] = False,
    ) -> None:
        """Train BYOL on digits with and without a prior, on 20 % and all of the data, and compare: a few minutes."""
        from rela_zoo.demo import run_demo
        from rela_zoo.hosts.builtin.compose import silence_lightning

        silence_lightning()
        run_demo(output, seed=seed, epochs=epochs, fresh=fresh)
