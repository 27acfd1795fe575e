"""Where the numbers of a run go: CSV and TensorBoard files in its folder, Weights & Biases and Trackio if asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from rela_zoo.errors import Problem

# Sections that name a package to log with.
_PACKAGES = ("wandb", "trackio")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def missing_packages(cfg: Mapping[str, Any]) -> list[Problem]:
    """Trackers that are asked for and not installed."""
    wanted = [name for name in _PACKAGES if isinstance(cfg.get(name), Mapping) and cfg[name].get("enabled")]
    return [
        Problem(f"{name}.enabled", f"the package {name}", "it is not installed", f"pip install {name}, or set it false")
        for name in wanted
        if not _installed(name)
    ]


def make_loggers(cfg: Mapping[str, Any], folder: Path) -> list[Logger]:
    """The loggers of a run.

    Args:
        cfg: a whole configuration, plain.
        folder: of the run; files are written there if it keeps checkpoints.

    Returns:
        Of Lightning's; a run that goes on adds a folder `logs/version_N` to those of its earlier parts.
    """
    loggers: list[Logger] = []
    files = cfg["checkpoint"]["enabled"]
    if files and cfg["logs"]["csv"]:
        loggers.append(CSVLogger(str(folder), name="logs"))
    if files and cfg["logs"]["tensorboard"]:
        loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version=""))
    wandb, trackio = cfg.get("wandb") or {}, cfg.get("trackio") or {}
    if wandb.get("enabled"):
        from lightning.pytorch.loggers import WandbLogger

        named: dict[str, Any] = {key: wandb[key] for key in ("entity", "project") if wandb.get(key)}
        if files:
            named["save_dir"] = str(folder)
        loggers.append(WandbLogger(name=cfg["name"], offline=bool(wandb.get("offline")), **named))
    if trackio.get("enabled"):
        loggers.append(TrackioLogger(str(trackio.get("project") or "rela-zoo"), cfg["name"]))
    return loggers


def rate_monitors(cfg: Mapping[str, Any], loggers: list[Logger]) -> list[Callback]:
    """What logs the learning rates, where somebody listens and they change."""
    return [LearningRateMonitor("step")] if loggers and cfg["scheduler"]["name"] != "none" else []


class TrackioLogger(Logger):
    """Trackio, whose functions are those of wandb.

    Args:
        project: of the run.
        run: its name.
    """

    def __init__(self, project: str, run: str) -> None:
        super().__init__()
        self._project, self._run, self._begun = project, run, False

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run."""
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's folder has the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand them on."""
        import trackio

        if not self._begun:
            trackio.init(project=self._project, name=self._run)
            self._begun = True
        trackio.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Let it write what is left."""
        if self._begun:
            import trackio

            trackio.finish()
            self._begun = False
