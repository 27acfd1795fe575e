"""`rela-zoo doctor`: is everything in place for training with priors, and how to mend what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


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


def register(app: typer.Typer) -> None:
    """Add the command `doctor`."""
    app.command("doctor")(doctor)
