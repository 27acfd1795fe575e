"""The `rela-zoo` command line. One module a group of commands; heavy libraries are imported inside the commands."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from rela_zoo._io.log import speak
from rela_zoo.errors import RelaZooError

app = typer.Typer(
    name="rela-zoo",
    help="Priors by name for cheaper self-supervised training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _start() -> None:
    # Results go to stdout; commands that have none there move the messages to it.
    speak("stderr")


# Each module has `register(app)`, which adds its commands.
_COMMAND_MODULES: tuple[str, ...] = (
    "_registry",
    "_embed",
    "_transport",
    "_compare",
    "_recommend",
    "_publish",
    "_subset",
    "_training",
    "_solo_learn",
    "_hub",
)

for _module in _COMMAND_MODULES:
    import_module(f"rela_zoo.cli.{_module}").register(app)


def main() -> None:
    """Run the command line; a user's mistake prints its message and exits 2. Ctrl-C exits 130, by typer."""
    try:
        app()
    except RelaZooError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
