"""The `rela-zoo` command line. One module a group of commands; heavy libraries are imported inside the commands."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated

import typer

from rela_zoo._io.debug import DEBUG_VARIABLE
from rela_zoo._io.log import speak
from rela_zoo._version import __version__
from rela_zoo.cli._boundary import guarded

app = typer.Typer(
    name="rela-zoo",
    help="Priors by name for cheaper self-supervised training.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Handed down to every command.
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rela-zoo {__version__}")
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 done, 1 a check failed or something unexpected, 2 a mistake to mend, 130 Ctrl-C.")
def _start(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show where an error comes from (a traceback).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    # Results go to stdout; commands that have none there move the messages to it.
    speak("stderr")
    if debug:
        # The environment reaches the other processes of a run too.
        os.environ[DEBUG_VARIABLE] = "1"


# Each module has `register(app)`, which adds its commands.
_COMMAND_MODULES: tuple[str, ...] = (
    "_registry",
    "_embed",
    "_transport",
    "_compare",
    "_recommend",
    "_publish",
    "_keygen",
    "_subset",
    "_training",
    "_report",
    "_export",
    "_evaluate",
    "_solo_learn",
    "_hub",
    "_index",
    "_zoo",
)

for _module in _COMMAND_MODULES:
    import_module(f"rela_zoo.cli.{_module}").register(app)


def main() -> None:
    """Run the command line. Errors end it with a message and the exit codes of `rela_zoo.cli._boundary`."""
    guarded(app)
