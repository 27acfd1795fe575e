"""`rela-zoo export`: the trained backbone for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("export")(export_command)


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="A .ckpt file of `rela-zoo pretrain` or of solo-learn.")],
    out: Annotated[Path, typer.Option(help="File to write, *.safetensors.")],
    format: Annotated[
        str, typer.Option("--format", help="Whose names the tensors have: timm, torchvision (ResNets), or safetensors.")
    ] = "timm",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the student's backbone of a checkpoint as safetensors, and say how other programs load it."""
    from rela_zoo.prior.export import export_backbone

    done = export_backbone(checkpoint, format, out)
    if as_json:
        result = {"path": str(done.path), "tensors": done.tensors, "metadata": done.metadata}
        typer.echo(json.dumps({**result, "code": done.code, "notes": done.notes}, indent=2))
        return
    typer.echo(f"{done.tensors} tensors in {done.path}; to load them:\n")
    for line in done.code:
        typer.echo(f"    {line}")
    typer.echo("")
    for note in done.notes:
        typer.echo(note)
