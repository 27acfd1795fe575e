"""`rela-zoo run` and `doctor`: scripts of solo-learn with the plugin active, and whether everything is in place."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rela_zoo.cli._locks import LockFile, insist_on
from rela_zoo.errors import RelaZooError

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "run",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    )(run)
    app.command("doctor")(doctor)


def run(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(help="A script of solo-learn: main_pretrain.py, main_linear.py, …")],
    lock: LockFile = None,
) -> None:
    """Run a script of solo-learn with the plugin active, even where Hydra does not discover it.

    Everything after SCRIPT goes to it: rela-zoo run main_pretrain.py --config-path DIR --config-name NAME +rela=PRIOR
    """
    from rela_zoo.hosts.solo_learn import launch
    from rela_zoo.hosts.solo_learn.find import require_solo_learn

    if not script.is_file():
        raise RelaZooError(
            "there is no such script", expected="a script of solo-learn", got=f"{script}", fix="check the path"
        )
    require_solo_learn(script)
    insist_on(lock)
    environment = {**os.environ, launch.SCRIPT_VARIABLE: str(script.resolve())}
    root = Path(__file__).resolve().parent.parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        # A fresh interpreter may not find this package where only this process's path leads to it.
        inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *inherited])
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, launch.__file__, *context.args], environment)


def doctor(
    script: Annotated[Path | None, typer.Argument(help="A script of solo-learn to check as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check solo-learn, Lightning, the plugin, cache, Hub and GPU; exits 1 if something must be mended."""
    from rela_zoo.hosts.solo_learn.doctor import examine

    findings = examine(script)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            mark, colour = _MARKS[finding.status]
            typer.secho(f"{mark} {finding.name}: ", fg=colour, nl=False)
            typer.echo(finding.found)
            if finding.mend:
                typer.echo(f"    mend: {finding.mend}")
    raise typer.Exit(code=int(any(finding.status == "problem" for finding in findings)))
