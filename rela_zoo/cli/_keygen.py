"""`rela-zoo keygen`: a key that signs what one publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("keygen", rich_help_panel="Sharing")(keygen_command)


def keygen_command(
    keyfile: Annotated[Path, typer.Argument(help="The private key: a new file, which only you can read.")],
    show: Annotated[bool, typer.Option("--show", help="Print the public key of one that is there.")] = False,
) -> None:
    """Make a key for `publish --sign`, and print its public half, which others give to `pull --require-signature`."""
    from rela_zoo.remote import create_key, read_key

    key = read_key(keyfile) if show else create_key(keyfile)
    typer.echo(key.identity)
    if not show:
        typer.echo(f"the private key is in {keyfile}: keep it to yourself, with a copy elsewhere", err=True)
