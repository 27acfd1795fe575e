"""`rela-zoo run`: a script of solo-learn, with the plugin active for certain."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from rela_zoo.errors import RelaZooError


def _bare_prior(arguments: list[str]) -> str | None:
    """The argument that would make `rela` a plain string in place of a section; None if there is none."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ("++rela", "~rela") or (key.lstrip("+") == "rela" and value[:1] in "'\""):
            return argument
    return None


def run(
    context: typer.Context,
    script: Path = typer.Argument(..., help="A script of solo-learn: main_pretrain.py, main_linear.py, …"),
) -> None:
    """Run a script of solo-learn with the plugin active, even where Hydra does not discover it.

    Everything after SCRIPT goes to it: rela-zoo run main_pretrain.py --config-path DIR --config-name NAME +rela=PRIOR
    """
    from rela_zoo.hosts.solo_learn import launch
    from rela_zoo.hosts.solo_learn._find import require_solo_learn

    if not script.is_file():
        raise RelaZooError(
            "there is no such script", expected="a script of solo-learn", got=f"{script}", fix="check the path"
        )
    if (bare := _bare_prior(context.args)) is not None:
        raise RelaZooError(
            "rela would become a plain string, and a plain baseline would train",
            expected="+rela=NAME, which picks the entry NAME of the config group rela",
            got=bare,
            fix="write +rela=NAME rela.data_ratio=0.2, or +rela=default rela.prior=NAME",
        )
    require_solo_learn(script)
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {
        **os.environ,
        launch.SCRIPT_VARIABLE: str(script.resolve()),
        # The launcher must be able to import this package also where it is only on this process's path.
        "PYTHONPATH": os.pathsep.join(path),
    }
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, launch.__file__, *context.args], environment)


def register(app: typer.Typer) -> None:
    """Add the command `run`."""
    app.command(
        "run",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    )(run)
