"""`rela-zoo pretrain` and `demo`: train students with the built-in host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rela_zoo._io import ranks
from rela_zoo._io.log import speak
from rela_zoo.cli._complete import configurations, overrides
from rela_zoo.cli._locks import LockFile, insist_on
from rela_zoo.errors import RelaZooError
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


Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, +key=value, ~key", show_default=False, autocompletion=overrides)
]
ConfigName = Annotated[
    str,
    typer.Option(
        "--config-name",
        "-cn",
        help=f"One of: {', '.join(packaged_names())}; or a file's name.",
        autocompletion=configurations,
    ),
]
ConfigPath = Annotated[
    Path | None, typer.Option("--config-path", "-cp", help="Folder of your own configurations.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pretrain", help=_HELP, no_args_is_help=True, rich_help_panel="Training")(pretrain)
    app.command("config", rich_help_panel="Training")(config)
    app.command("demo")(demo)


def pretrain(
    overrides: Overrides = None,
    config_name: ConfigName = "byol",
    config_path: ConfigPath = None,
    print_config: Annotated[bool, typer.Option("--print-config", hidden=True)] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Insist on the artefacts that the run's rela.lock names.")
    ] = False,
    lock: LockFile = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", hidden=True)] = False,
) -> None:
    if multirun:
        from rela_zoo.hosts.builtin.compose import refuse_sweep

        refuse_sweep(list(overrides or ()))
    if locked:
        from rela_zoo.hub import LOCKED_VARIABLE

        # The environment reaches the other processes of a run too.
        os.environ[LOCKED_VARIABLE] = "1"
    insist_on(lock)
    cfg = compose(config_name, config_path, list(overrides or ()))
    if lock is not None and cfg.get("rela") is None:
        raise RelaZooError(
            "this run has no `rela` section, so it uses nothing that could be locked", expected="rela=PRIOR",
            got=f"--lock {lock}", fix="add it, or leave out --lock",
        )  # fmt: skip
    if print_config:
        from omegaconf import OmegaConf

        typer.echo(OmegaConf.to_yaml(cfg, resolve=True), nl=False)
        return
    from rela_zoo.hosts.builtin.early import check_early

    check_early(cfg)
    speak("stdout")
    silence_lightning()
    from rela_zoo.hosts.builtin.train import train

    result = train(cfg)
    # Lightning starts the other processes of a machine with the same command.
    if ranks.is_first():
        typer.echo(result.summary(), err=True)


def config(
    overrides: Overrides = None,
    config_name: ConfigName = "byol",
    config_path: ConfigPath = None,
) -> None:
    """Print what `pretrain` with the same words would train: every key, with sizes and stem as the data want them.

    The output is a configuration itself: keep it in a file, and train with --config-path and --config-name, or with
    solo-learn.
    """
    from omegaconf import OmegaConf

    from rela_zoo.hosts.builtin.config import as_plain, fill_defaults
    from rela_zoo.hosts.builtin.sizes import leaves_size_open, size_for, with_size

    cfg = compose(config_name, config_path, list(overrides or ()))
    plain = as_plain(fill_defaults(cfg))
    if leaves_size_open(plain):
        size, why_not = size_for(plain)
        if size is None:
            typer.echo(f"note: sizes are left to the data, which can't be looked at: {why_not}", err=True)
        else:
            plain = with_size(plain, size)
    typer.echo(OmegaConf.to_yaml(OmegaConf.create(plain)), nl=False)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, artefacts, results.json and figure.png.")] = Path(
        "rela_zoo_demo"
    ),
    prior: Annotated[
        str, typer.Option(help="Any prior that is ready: `rela-zoo list --ready`; the default comes with the package.")
    ] = "cifar10-resnet20",
    seed: Annotated[int, typer.Option(min=0, help="Of students, subsets and views.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of each training; the default is what the demo is tuned for.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Throw away what an earlier call has trained.")] = False,
) -> None:
    """Train BYOL on digits with and without a prior, on 20 % and all of the data, and compare: a few minutes."""
    from rela_zoo.demo import run_demo

    speak("stdout")
    silence_lightning()
    run_demo(output, prior=prior, seed=seed, epochs=epochs, fresh=fresh)
