"""What a run leaves for people: `run.json` with its curves and circumstances, `config.yaml`, and the page made of them.

`run.json` is written anew after each epoch, so that the page of a run can be made while it is under way.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from rela_zoo._io.environment import environment
from rela_zoo._io.files import atomic_write
from rela_zoo.analysis.report import RUN_FILE
from rela_zoo.hosts.builtin.checkpoint import History


def command_line() -> str | None:
    """The command that this process was started by, if it is this package's."""
    program = Path(sys.argv[0]).name
    if program == "__main__.py" and Path(sys.argv[0]).parent.name == "rela_zoo":
        program = "rela-zoo"
    return shlex.join([program, *sys.argv[1:]]) if program == "rela-zoo" else None


class RunRecord(Callback):
    """Writes the files, and counts how often each sample was trained on.

    Args:
        folder: of the run.
        config: the configuration, plain, sizes in place.
        history: of the run; called before this one.
    """

    def __init__(self, folder: Path, config: dict[str, Any], history: History) -> None:
        self._folder, self._config, self._history = folder, config, history
        self._seen: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self._seen = state_dict["seen"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known by now."""
        if trainer.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True)
            atomic_write(self._folder / "config.yaml", text.encode())
            self._circumstances = {"command": command_line(), "environment": environment()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Count the epoch, and write it down."""
        self._count(trainer)
        if not trainer.is_global_zero:
            return
        accelerator = getattr(pl_module, "rela", None)
        seen = None if self._seen is None else torch.bincount(self._seen).tolist()
        content = {
            "format": 1,
            "name": self._config["name"],
            "method": self._config["method"],
            "max_epochs": trainer.max_epochs,
            "epochs": trainer.current_epoch + 1,
            "steps": trainer.global_step,
            "accelerates": accelerator is not None and accelerator.config.accelerates,
            "handover_step": None if accelerator is None else accelerator.handover_step,
            # Times trained on → samples.
            "seen": None if seen is None else {str(times): count for times, count in enumerate(seen) if count},
            "history": self._history.rows,
            **self._circumstances,
        }
        atomic_write(self._folder / RUN_FILE, (json.dumps(content, indent=1) + "\n").encode())

    def _count(self, trainer: Trainer) -> None:
        sampler: Any = getattr(trainer.train_dataloader, "sampler", None)
        drawn = getattr(sampler, "drawn", None)
        if drawn is None:
            return
        if self._seen is None or len(self._seen) != sampler.subset.n:
            self._seen = torch.zeros(sampler.subset.n, dtype=torch.int32)
        trained = int(trainer.num_training_batches) * sampler.batch_size * sampler.num_replicas
        # A policy may draw a sample more than once.
        self._seen += torch.bincount(drawn[:trained], minlength=sampler.subset.n).int()
