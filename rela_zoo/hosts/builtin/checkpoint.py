"""Checkpoints that are never half written, found again by what decides the training."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rela_zoo._io.files import atomic_path, atomic_write, temporary_path
from rela_zoo.errors import RelaZooError, TrainingError

_KEY = "rela_zoo_run"


def checkpoint_epoch(path: Path) -> int | None:
    """The epoch in a checkpoint's name, or None for another file: `byol-ep=2 (copy).ckpt`."""
    found = re.fullmatch(r".*-ep=(\d+)\.ckpt", path.name)
    return None if found is None else int(found[1])


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest epoch in a run's folder; copies under other names don't count."""
    found = {epoch: path for path in folder.glob("*-ep=*.ckpt") if (epoch := checkpoint_epoch(path)) is not None}
    return found[max(found)] if found else None


def shorter_run(folder: Path, config: Mapping[str, Any]) -> tuple[Path, int] | None:
    """A finished run that differs from this one in being shorter alone: the longest one's checkpoint, and its epochs.

    Args:
        folder: of this run; the others lie beside it.
        config: what decides this run.
    """

    def rest(of: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in of.items() if key != "max_epochs"}

    found: list[tuple[int, Path]] = []
    for file in folder.parent.glob("*/config.json"):
        try:
            other = json.loads(file.read_bytes())
            epochs = int(other["max_epochs"])
            same = rest(other) == rest(config)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        last = find_checkpoint(file.parent)
        if same and epochs < config["max_epochs"] and last is not None and checkpoint_epoch(last) == epochs - 1:
            found.append((epochs, last))
    if not found:
        return None
    epochs, last = max(found)
    return last, epochs


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects.

    Raises:
        RelaZooError: if it can't be read, holds anything but tensors and plain values, or is of another program.
    """
    fix = "remove it and resume from an earlier one, or start anew with auto_resume.enabled=false"
    expected = "a checkpoint of the built-in host, with tensors and plain values only"
    try:
        if not path.stat().st_size:
            raise EOFError("the file is empty")
        read: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = (str(error).splitlines() or ["no reason given"])[0]
        raise RelaZooError(
            f"the checkpoint {path} can't be read", expected=expected, got=f"{type(error).__name__}: {said}", fix=fix
        ) from None
    if not isinstance(read, dict) or not {"state_dict", "loops", "optimizer_states", _KEY} <= read.keys():
        got = f"a file with {', '.join(map(str, list(read)[:5]))}" if isinstance(read, dict) else type(read).__name__
        raise RelaZooError(
            f"{path} is no checkpoint of the built-in host",
            expected=expected,
            got=got or "an empty one",
            fix="name one that `rela-zoo pretrain` has written, or start anew without resume_from_checkpoint",
        )
    return read


def differences(checkpoint: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Dotted keys that a checkpoint's run and this configuration set differently."""

    def flat(value: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {key: x for name, part in value.items() for key, x in flat(part, f"{prefix}.{name}".strip(".")).items()}

    then, now = flat(checkpoint.get(_KEY, {}).get("config", {})), flat(config)
    return sorted(key for key in {*then, *now} if then.get(key) != now.get(key)) if then else []


# Of another method, network or optimiser nothing can be gone on with; other keys are a matter of taste.
_NEVER_OTHER = ("method", "backbone", "method_kwargs", "optimizer.name", "optimizer.exclude_bias_n_norm_wd",
                "momentum.classifier", "rela.head")  # fmt: skip


def refuse_another_run(
    path: Path, checkpoint: Mapping[str, Any], config: Mapping[str, Any], changed: list[str]
) -> None:
    """Refuse to go on from a checkpoint of another method, network or optimiser.

    Args:
        path: of the checkpoint, for the message.
        checkpoint: read.
        config: what decides this run.
        changed: dotted keys that differ.

    Raises:
        RelaZooError: naming the keys, and both values.
    """
    then = checkpoint.get(_KEY, {}).get("config", {})
    other = [key for key in changed if any(f"{key}.".startswith(f"{one}.") for one in _NEVER_OTHER)]
    if (then.get("rela") is None) != (config.get("rela") is None):
        other = [*(key for key in other if not key.startswith("rela")), "rela"]
    if not other:
        return

    def value(of: Any, key: str) -> str:
        for part in key.split("."):
            of = of.get(part) if isinstance(of, dict) else None
        return "a section" if isinstance(of, dict) else "none" if of is None else str(of)

    # The name of a network says more than its options.
    shown = sorted(other, key=lambda key: key.count("."))[:6]
    raise RelaZooError(
        f"{path} is of another run: {', '.join(shown)} differ{'s' * (len(other) == 1)}",
        expected=", ".join(f"{key} {value(then, key)}" for key in shown),
        got=", ".join(f"{key} {value(config, key)}" for key in shown),
        fix="set them as they were there, or start a new run without resume_from_checkpoint",
    )


def _refuse_broken_weights(module: LightningModule, step: int) -> None:
    """Refuse to replace a good checkpoint by one that nothing can be made of."""
    finite = [torch.isfinite(one).all() for one in module.parameters()]
    if not torch.stack(finite).all():
        names = [name for (name, _), good in zip(module.named_parameters(), finite, strict=True) if not good]
        raise TrainingError(
            f"weights are not finite after step {step}",
            expected="finite weights",
            got=f"NaN or infinity in {len(names)} of {len(finite)} parameters, {names[0]} among them; "
            "no checkpoint is written, the last good one is kept",
            fix="lower optimizer.lr, or train in precision=32 or bf16-mixed; then run the command again",
        )


class Checkpointer(Callback):
    """Writes a checkpoint after every `frequency` epochs and after the last.

    Each is written beside its place and moved there, so that a kill leaves the previous one whole.

    Args:
        folder: of this run.
        name: of the files, `<name>-ep=<epoch>.ckpt`, epochs counted from 0 as in solo-learn.
        frequency: in epochs, ≥ 1.
        keep_prev: keep all of them, not only the last.
        config: what decides the training, plain values; kept in the checkpoint and beside it.
    """

    def __init__(self, folder: Path, name: str, frequency: int, keep_prev: bool, config: dict[str, Any]) -> None:
        self.folder, self.name, self.frequency, self.keep_prev = folder, name, frequency, keep_prev
        self.config = config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self.folder / "config.json", (json.dumps(self.config, indent=2) + "\n").encode("utf-8"))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the configuration in."""
        checkpoint[_KEY] = {"config": self.config}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one, if it is time."""
        epoch = trainer.current_epoch
        if (epoch + 1) % self.frequency and epoch + 1 != trainer.max_epochs:
            return
        _refuse_broken_weights(pl_module, trainer.global_step)
        final = self.folder / f"{self.name}-ep={epoch}.ckpt"
        first = trainer.is_global_zero
        # All processes take part in saving, under one name; the first one moves the file.
        with atomic_path(final, suffix=".part") if first else nullcontext(temporary_path(final, ".part")) as temporary:
            trainer.save_checkpoint(temporary)
        if first and not self.keep_prev:
            for old in self.folder.iterdir():
                if old != final and old.name.startswith(f"{self.name}-ep=") and checkpoint_epoch(old) is not None:
                    old.unlink()
        trainer.strategy.barrier("checkpoint")


class History(Callback):
    """Means of each epoch, samples seen and seconds spent; goes on where a checkpoint left off.

    Attributes:
        rows: one dict an epoch, with `epoch`, `step`, `samples_seen`, `seconds`, and what was logged.
        samples_seen: over all ranks and resumptions.
        seconds: spent in training and validation, over all resumptions.
        started_at: optimiser steps made before this call; None if it has made none.
    """

    def __init__(self) -> None:
        self.started_at: int | None = None
        self.rows: list[dict[str, float]] = []
        self.samples_seen, self.seconds = 0, 0.0
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows, "samples_seen": self.samples_seen, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])
        self.samples_seen, self.seconds = state_dict["samples_seen"], state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started_at = trainer.global_step
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch."""
        self.samples_seen += len(batch[0]) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take a row."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        means = {key: float(value) for key, value in trainer.callback_metrics.items() if key in self._fresh(trainer)}
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "samples_seen": self.samples_seen,
                "seconds": self.seconds,
                **means,
            }
        )

    @staticmethod
    def _fresh(trainer: Trainer) -> set[str]:
        """Names of this epoch's means; the trainer goes on showing those of losses that are no longer computed."""
        shown = {key for key in trainer.callback_metrics if not key.endswith(("_step", "_epoch"))}
        results = getattr(trainer.fit_loop, "_results", None)
        if results is None:
            return shown
        logged = {item.meta.name for item in results.values() if not item.has_reset}
        return {key for key in shown if key in logged or "val_" in key}
