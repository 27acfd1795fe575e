"""`rela-zoo pretrain`: train a student with the built-in host, from a Hydra configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rela_zoo.hosts.builtin.compose import compose, packaged_names, silence_lightning

_HELP = """Train a student network on your images, with or without a prior.

A configuration names method, network, data, views and optimiser; whatever follows the options overrides keys of it,
in Hydra's grammar. The keys are solo-learn's, and configurations move there unchanged.

Plain BYOL on an image folder with one folder a class (data.no_labels=true for a flat folder):

    rela-zoo pretrain --config-name byol data.train_path=DIR

The same, sped up by a prior, on a fifth of the data in each epoch; `rela-zoo list` shows the priors:

    rela-zoo pretrain --config-name byol data.train_path=DIR rela=cifar10-resnet20 rela.data_ratio=0.2

Other keys people set: data.val_path, max_epochs, optimizer.batch_size, optimizer.lr, backbone.name, augmentations
(asymmetric, symmetric, symmetric_weak, multicrop), devices, accelerator, checkpoint.dir. The same command goes on
where it was stopped (auto_resume.enabled).
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="pretrain", help=_HELP, no_args_is_help=True, rich_help_panel="Training")(pretrain)


def pretrain(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, +key=value, ~key", show_default=False)
    ] = None,
    config_name: Annotated[
        str, typer.Option("--config-name", "-cn", help=f"One of: {', '.join(packaged_names())}; or a file's name.")
    ] = "byol",
    config_path: Annotated[
        Path | None, typer.Option("--config-path", "-cp", help="Folder of your own configurations.", show_default=False)
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print what would be run, and stop.")] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Insist on the artefacts that the run's rela.lock names.")
    ] = False,
) -> None:
    if locked:
        from rela_zoo.hub import LOCKED_VARIABLE

        # The environment reaches the other processes of a run too.
        os.environ[LOCKED_VARIABLE] = "1"
    cfg = compose(config_name, config_path, list(overrides or ()))
    if print_config:
        from omegaconf import OmegaConf

        typer.echo(OmegaConf.to_yaml(cfg), nl=False)
        return
    silence_lightning()
    from rela_zoo.hosts.builtin.train import train

    result = train(cfg)
    # Lightning starts the other processes of a machine with the same command.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        typer.echo(_summary(result), err=True)


def _summary(result: Any) -> str:
    last = result.history[-1] if result.history else {}
    lines = [
        f"trained {last.get('epoch', -1) + 1} epochs, {result.steps} steps, {result.samples_seen} samples, "
        f"{result.seconds:.0f} s"
    ]
    if "val_acc1" in last:
        lines.append(f"online classifier on held-out images: {last['val_acc1']:.1f} %")
    if result.checkpoint is not None:
        lines.append(f"checkpoint: {result.checkpoint}")
    return "\n".join(lines)
