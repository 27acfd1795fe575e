"""Train one of the built-in methods from a configuration."""

from __future__ import annotations

import inspect
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from omegaconf import DictConfig

from rela_zoo._io.log import logger, speak
from rela_zoo._io.memory import keep_freed_memory
from rela_zoo.analysis.report import PAGE_FILE, RUN_FILE, write_page
from rela_zoo.engine import RelaPlan, SubsetSampler
from rela_zoo.hosts.builtin._callbacks import Chance, Ranks, seed_all
from rela_zoo.hosts.builtin._images import prepare_images
from rela_zoo.hosts.builtin._loggers import make_loggers, rate_monitors
from rela_zoo.hosts.builtin._record import RunRecord
from rela_zoo.hosts.builtin._setup import make_trainer, train_loader, val_loader
from rela_zoo.hosts.builtin._surroundings import ignored, never_reached
from rela_zoo.hosts.builtin.base import BaseMethod
from rela_zoo.hosts.builtin.checkpoint import (
    Checkpointer,
    History,
    checkpoint_epoch,
    differences,
    find_checkpoint,
    read_checkpoint,
    refuse_another_run,
    shorter_run,
)
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.config import (
    as_plain,
    count_devices,
    fill_defaults,
    resolve_config,
    run_digest,
    run_identity,
)
from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.sizes import describe
from rela_zoo.hosts.lightning import FiniteLosses, next_epoch

log = logger(__name__)


@dataclass
class TrainResult:
    """What a run leaves behind.

    Attributes:
        method: the trained method; its `backbone` is the student.
        folder: of checkpoints and configuration, whether or not any were written.
        checkpoint: the last one, or None if `checkpoint.enabled` is false.
        resumed_from: the checkpoint that the run went on from.
        steps: optimiser steps, those before a resumption included.
        new_steps: of them, those that this call has made; 0 where a checkpoint had all epochs already.
        accelerated_steps, own_steps: of `steps`, those of each stage; all are the method's own without a prior.
        samples_seen: over all ranks and resumptions.
        seconds: of training and validation, over all resumptions.
        history: one dict an epoch.

    Examples:
        >>> from pathlib import Path
        >>> from rela_zoo import TrainResult
        >>> result = TrainResult(
        ...     method=None, folder=Path("runs"), checkpoint=Path("runs/byol-ep=9.ckpt"), resumed_from=None, steps=40,
        ...     samples_seen=640, seconds=12.0, new_steps=40, history=[{"epoch": 9}],
        ... )
        >>> print(result.summary())
        trained 10 epochs, 40 steps, 640 samples, 12 s
        checkpoint: runs/byol-ep=9.ckpt
    """

    method: BaseMethod
    folder: Path
    checkpoint: Path | None
    resumed_from: Path | None
    steps: int
    samples_seen: int
    seconds: float
    new_steps: int = 0
    accelerated_steps: int = 0
    own_steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def summary(self) -> str:
        """What was trained, in which stages, and where it is: a few lines for the user."""
        last = self.history[-1] if self.history else {}
        if not self.new_steps:
            lines = [
                f"nothing was trained: {self.resumed_from or 'the run'} has all {last.get('epoch', -1) + 1} epochs"
            ]
        else:
            lines = [
                f"trained {last.get('epoch', -1) + 1} epochs, {self.steps} steps, {self.samples_seen} samples, "
                f"{self.seconds:.0f} s"
            ]
        if self.accelerated_steps or self.own_steps:
            own, method = self.own_steps, self.method.cfg.method
            stages = [f"{self.accelerated_steps} steps accelerated"] if self.accelerated_steps else []
            stages.append(f"{own} steps of {method}" if own else f"no step of {method}")
            lines.append(f"stages: {', then '.join(stages)}")
        if "val_acc1" in last:
            lines.append(f"online classifier on held-out images: {last['val_acc1']:.1f} %")
        if self.checkpoint is not None:
            lines.append(f"checkpoint: {self.checkpoint}")
        if (page := self.folder / PAGE_FILE).is_file():
            lines.append(f"page: {page}")
        return "\n".join(lines)


def _resume_path(cfg: DictConfig, folder: Path) -> Path | None:
    if cfg.resume_from_checkpoint is not None:
        return Path(str(cfg.resume_from_checkpoint)).expanduser()
    return find_checkpoint(folder) if cfg.auto_resume.enabled else None


def build_method(cfg: DictConfig, plan: RelaPlan | None = None) -> BaseMethod:
    """The method that a resolved configuration names, with random weights; wrapped if it has a `rela` section.

    Args:
        cfg: the configuration.
        plan: its `rela` section, if that has been checked already.
    """
    method: Any = METHODS[cfg.method]
    if cfg.get("rela") is None:
        built = method(cfg)
    else:
        from rela_zoo.hosts.contract import with_rela

        built = with_rela(method)(cfg, rela=plan)
    return built if cfg.performance.disable_channel_last else built.to(memory_format=torch.channels_last)


def initial_method(cfg: Any) -> LightningModule:
    """The method exactly as `train` starts with it; its `backbone` is the untrained student.

    Args:
        cfg: as for `train`.

    Raises:
        ConfigError: with every problem of the configuration.
    """
    data = check(cfg)
    whole = resolve_config(fill_defaults(data.config), len(data.train.classes))
    seed_all(whole.seed, 0)
    return build_method(whole, data.plan)


def train(cfg: Any, *, callbacks: Sequence[Callback] = ()) -> TrainResult:
    """Check the configuration, train, and write checkpoints.

    The result depends on the configuration alone, not on the number of workers; on a CPU, a run that was stopped and
    resumed ends bit for bit like one that was not.

    Args:
        cfg: a mapping or an OmegaConf configuration with solo-learn's keys; see `rela_zoo/conf/byol.yaml`.
        callbacks: called beside the host's own, before a checkpoint is written.

    Raises:
        ConfigError: before training, with every problem of the configuration.
        KeyboardInterrupt: on Ctrl-C, after saying how to resume.

    Examples:
        >>> from rela_zoo import train
        >>> from rela_zoo.hosts.builtin.compose import compose
        >>> overrides = ["data.train_path=photos", "max_epochs=1", "optimizer.batch_size=16"]
        >>> config = compose("byol", None, [*overrides, "rela=cifar10-resnet20", "rela.data_ratio=0.2"])
        >>> for view in config.augmentations:
        ...     view.crop_size = 32
        >>> result = train(config)
        >>> result.steps, result.samples_seen
        (3, 48)
    """
    speak()
    data = check(cfg)
    if not torch.cuda.is_available():
        keep_freed_memory()
    given = fill_defaults(data.config)
    whole = resolve_config(given, len(data.train.classes))
    _say_what_is_not_heeded(as_plain(cfg), as_plain(whole))
    log.info(describe(as_plain(cfg), as_plain(whole), data.typical))
    folder = Path(str(whole.checkpoint.dir)).expanduser() / whole.method / f"{whole.name}-{run_digest(given)}"
    resume = _resume_path(whole, folder)
    if resume is not None:
        before, identity = read_checkpoint(resume), run_identity(given)
        changed = differences(before, identity)
        refuse_another_run(resume, before, identity, changed)
        if changed:
            print(f"note: {resume} comes from a run with other {', '.join(changed)}", file=sys.stderr)
        _say_what_is_done(resume, before, whole.max_epochs)
    elif whole.checkpoint.enabled:
        _offer_to_extend(folder, run_identity(given))
    processes = count_devices(as_plain(whole.devices), whole.accelerator) * whole.num_nodes
    seed_all(whole.seed, 0)
    method = build_method(whole, data.plan)
    images, method.device_views = prepare_images(as_plain(whole.data), data.train)
    loader, held_out = train_loader(whole, images, processes), val_loader(whole, data.val)
    if whole.debug_augmentations:
        print(as_plain(whole.augmentations))
    history = History()
    every: list[Callback] = [Chance(whole.seed), history, *callbacks]
    if isinstance(loader.sampler, SubsetSampler):
        every += [Ranks(loader.sampler), FiniteLosses(whole.method)]
    if whole.checkpoint.enabled:
        saving = whole.checkpoint
        every.append(RunRecord(folder, as_plain(given), history))
        every.append(Checkpointer(folder, whole.name, saving.frequency, saving.keep_prev, run_identity(given)))
    loggers = make_loggers(as_plain(whole), folder)
    trainer = make_trainer(whole, processes, [*every, *rate_monitors(as_plain(whole), loggers)], loggers)
    safe: dict[str, Any] = {"weights_only": True} if "weights_only" in inspect.signature(trainer.fit).parameters else {}
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(method, loader, held_out, ckpt_path=None if resume is None else str(resume), **safe)
    except (KeyboardInterrupt, SystemExit):
        # Depending on its version Lightning raises one, the other, or nothing.
        if not trainer.interrupted:
            raise
    finally:
        # Lightning leaves Ctrl-C switched off.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    if trainer.interrupted:
        _say_how_to_resume(whole, folder)
        raise KeyboardInterrupt
    if whole.checkpoint.enabled and trainer.is_global_zero and (folder / RUN_FILE).is_file():
        write_page(folder)
    accelerator = getattr(method, "rela", None)
    steps = trainer.global_step
    accelerated, own = (0, steps) if accelerator is None else accelerator.steps_by_stage(steps)
    return TrainResult(
        method=method,
        folder=folder,
        checkpoint=find_checkpoint(folder) if whole.checkpoint.enabled else None,
        resumed_from=resume,
        steps=steps,
        new_steps=0 if history.started_at is None else steps - history.started_at,
        accelerated_steps=accelerated,
        own_steps=own,
        samples_seen=history.samples_seen,
        seconds=history.seconds,
        history=history.rows,
    )


def _say_what_is_not_heeded(given: dict[str, Any], whole: dict[str, Any]) -> None:
    nothing = ignored(given, METHODS[whole["method"]].METHOD_KWARGS)
    if nothing:
        log.warning(f"rela_zoo: ignored, for they mean nothing here: {', '.join(nothing)}")
    for note in never_reached(whole):
        log.warning(f"rela_zoo: {note}")


def _say_what_is_done(checkpoint: Path, content: dict[str, Any], epochs: int) -> None:
    done = next_epoch(content)
    if done < epochs:
        log.info(f"going on from {checkpoint}: {done} of {epochs} epochs are done")
    else:
        log.info(f"done already: {checkpoint} has all {epochs} epochs, and nothing is trained")


def _offer_to_extend(folder: Path, config: dict[str, Any]) -> None:
    shorter = shorter_run(folder, config)
    if shorter is None:
        return
    last, epochs = shorter
    schedule, whole = config["scheduler"]["name"], config["max_epochs"]
    rate = "" if schedule == "none" else (
        f"; scheduler.name={schedule} then stands where it would after {epochs} of {whole} epochs, perhaps at another "
        f"rate than the one that the run of {epochs} ended with"
    )  # fmt: skip
    log.info(
        f"this run starts from zero. The same one with max_epochs={epochs} is finished: {last}\n"
        f"  to extend it instead, add {shlex.quote(f'++resume_from_checkpoint={last}')}{rate}"
    )


def _say_how_to_resume(cfg: DictConfig, folder: Path) -> None:
    last = find_checkpoint(folder) if cfg.checkpoint.enabled else None
    if last is None:
        why = "no epoch was finished" if cfg.checkpoint.enabled else "checkpoint.enabled is false"
        message = f"\nstopped; nothing to resume from, for {why}"
    else:
        epochs = (checkpoint_epoch(last) or 0) + 1
        how = "run the same command again" if cfg.auto_resume.enabled else "add auto_resume.enabled=true"
        message = f"\nstopped; {epochs} of {cfg.max_epochs} epochs are kept in {last}\nto go on: {how}"
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)
