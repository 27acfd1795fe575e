"""What a host under solo-learn's contract knows that the wrapper of its methods can't."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rela_zoo.engine import Accelerator
from rela_zoo.errors import Problem
from rela_zoo.hosts.lightning import LoaderData, TrainingData
from rela_zoo.hosts.protocols import HasMomentum, HostModule, HostTrainer


class Host:
    """The hooks that a host overrides where it differs."""

    def begin(self) -> None:
        """Called when a module is built, in whichever process that is, with and without a `rela` section."""

    def check(self, cfg: Any) -> list[Problem]:
        """What is wrong with a whole configuration; asked only if it has a `rela` section."""
        return []

    def data(self, module: HostModule) -> TrainingData:
        """The training data of a module in `setup`."""
        return LoaderData(module.trainer)

    def crop_size(self, module: HostModule) -> int:
        """Side of the large crops, in pixels."""
        return int(module.cfg.augmentations[0].crop_size)

    def seed_epoch(self, module: HostModule) -> None:
        """Seed chance outside the views: at the start of each epoch of a run with `rela`, and at its first step."""

    def has_loss(self, module: HostModule) -> bool:
        """Whether what `training_step` returns must be a number in the epoch under way."""
        return True

    def mend_saved(self, module: HostModule, checkpoint: dict[str, Any]) -> None:
        """Mend what the host puts into checkpoints and could not read again; with and without `rela`."""

    def mend_loaded(self, module: HostModule, checkpoint: dict[str, Any]) -> None:
        """Prepare a module for a checkpoint before its weights are loaded; with and without `rela`."""

    def mend_started(self, module: HostModule) -> None:
        """Put back what `on_train_start` has reset after a checkpoint was loaded; with and without `rela`."""

    def save(self, module: HostModule) -> dict[str, Any]:
        """State that the host's own checkpoints lack, as plain values."""
        # solo-learn forgets how far the momentum has risen, and would make the first step at its start again.
        return {"tau": getattr(getattr(module, "momentum_updater", None), "cur_tau", None)}

    def load(self, module: HostModule, state: Mapping[str, Any]) -> None:
        """Put that state back."""
        if state.get("tau") is not None:
            cast(HasMomentum, module).momentum_updater.cur_tau = state["tau"]

    def rewarm_momentum(self, module: HostModule, accelerator: Accelerator) -> None:
        """Set the momentum of a step by `rela.rewarm`, before each batch; for hosts that set it after the last."""

    def run_folder(self, trainer: HostTrainer) -> Path | None:
        """The folder of a run, known once training starts; None without one."""
        for callback in trainer.callbacks:
            place = getattr(callback, "folder", None) or getattr(callback, "path", None)
            if type(callback).__name__ == "Checkpointer" and isinstance(place, str | Path):
                return Path(place)
        return None
