"""Runs of an unmodified solo-learn: tiny data, tiny configurations, a private prior, a record.

For the tests, and for `scripts/solo_learn_table.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from tiny_methods import METHODS, VIEW

ROOT = Path(__file__).resolve().parents[3]
DRIVER = Path(__file__).with_name("_driver.py")

# A prior that costs nothing: colours of a 4×4 grid, through a fixed random map. It lies in the user's own registry.
_PRIOR = {
    "id": "tiny-grid",
    "title": "Colours of a 4x4 grid, for tests",
    "source": "callable",
    "family": "callable",
    "architecture": "tiny_grid:make",
    "licence": "not-applicable",
    "preprocessing": {
        "input_size": 32,
        "resize": 32,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    },
}
_PRIOR_CODE = """
import torch
from torch import nn


def make():
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 24))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network
"""

_HYDRA = {
    "defaults": ["_self_", {"override hydra/hydra_logging": "disabled"}, {"override hydra/job_logging": "disabled"}],
    "hydra": {"output_subdir": None, "run": {"dir": "."}},
}
_TRAINER = {"devices": "1", "accelerator": "cpu", "strategy": "auto", "precision": 32}


@dataclass
class Job:
    """One run of a script.

    Attributes:
        arguments: as on the command line.
        script: of the checkout.
        kill_at: (epoch, batch) after which the process kills itself.
    """

    arguments: list[str]
    script: str = "main_pretrain.py"
    record: bool = True
    kill_at: tuple[int, int] | None = None
    small_data_sets: bool = False
    cuda_is_cpu: bool = False
    check_targets: bool = False
    watch_reading: bool = False
    taus: bool = False
    by_hand: bool = False


@dataclass
class Outcome:
    """What a job did: its record of each rank, and how it ended."""

    ok: bool
    error: str
    seconds: float
    output: str
    ranks: list[list[dict[str, Any]]] = field(default_factory=list)
    read_by_workers: set[int] = field(default_factory=set)

    def rows(self, kind: str, rank: int = 0) -> list[dict[str, Any]]:
        return [row for row in self.ranks[rank] if row["kind"] == kind] if self.ranks else []

    @property
    def batches(self) -> list[dict[str, Any]]:
        return self.rows("batch")

    @property
    def end(self) -> dict[str, Any]:
        return self.rows("end")[-1]

    @property
    def start(self) -> dict[str, Any]:
        return self.rows("start")[-1]


class SoloRunner:
    """Writes configurations into one folder and runs scripts of the checkout there."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout, self.folder, self.view = checkout, folder, VIEW
        self.home = folder / "home"
        (self.home / "rela" / "registry").mkdir(parents=True)
        (self.home / "rela" / "registry" / "tiny-grid.yaml").write_text(yaml.safe_dump(_PRIOR))
        (self.home / "rela" / "registry" / "tiny_grid.py").write_text(_PRIOR_CODE)
        self.data = folder / "data"
        rng = np.random.default_rng(0)
        for split, count in (("train", 16), ("val", 4)):
            for name in ("cat", "dog"):
                (self.data / split / name).mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(self.data / split / name / f"{i:03d}.png")
        self._numbers = itertools.count()

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if key not in ("HF_ENDPOINT", "LOCAL_RANK")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]),
            "RELA_ZOO_HOME": str(self.home / "rela"),
            "HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
            "HYDRA_FULL_ERROR": "1",
            **extra,
        }

    def without_plugin(self) -> dict[str, str]:
        """Environment in which Hydra does not discover the plugin: another `hydra_plugins` hides it."""
        shadow = self.folder / "shadow"
        (shadow / "hydra_plugins").mkdir(parents=True, exist_ok=True)
        (shadow / "hydra_plugins" / "__init__.py").touch()
        return {"PYTHONPATH": os.pathsep.join([str(shadow), str(ROOT)])}

    def command(self, *words: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program (`-m …` or a script) in the folder; its output, both streams together, in `stdout`."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def config(self, method: str, file: str | None = None, /, **changes: Any) -> Path:
        """Write the configuration of a tiny run: 32 images of 32 px, batches of 8, two epochs, on the CPU."""
        special = METHODS[method]
        config: dict[str, Any] = {
            **_HYDRA,
            "name": method,
            "method": method,
            "backbone": {"name": "resnet18"},
            "data": {
                "dataset": "custom",
                "train_path": str(self.data / "train"),
                "val_path": None,
                "format": "image_folder",
                "num_workers": 0,
            },
            "augmentations": [VIEW],
            "optimizer": {
                "name": "sgd",
                "batch_size": 8,
                "lr": 0.3,
                "classifier_lr": 0.3,
                "weight_decay": 1e-4,
            },
            "scheduler": {"name": "warmup_cosine", "warmup_epochs": 0},
            "checkpoint": {"enabled": False, "dir": str(self.folder / "checkpoints")},
            "auto_resume": {"enabled": False},
            "max_epochs": 2,
            **_TRAINER,
            "log_every_n_steps": 1,
            **special,
            **changes,
        }
        return self._written(file or method, config)

    def _written(self, name: str, config: dict[str, Any]) -> Path:
        folder = self.folder / "configs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def arguments(self, config: Path, *overrides: str) -> list[str]:
        return ["--config-path", str(config.parent), "--config-name", config.name, *overrides]

    def job(self, method: str, *overrides: str, changes: dict[str, Any] | None = None, **options: Any) -> Job:
        """A run of `main_pretrain.py`; `changes` are keys of the configuration, `overrides` command-line words."""
        number = next(self._numbers)
        config = self.config(method, f"{method}-{number}", **(changes or {}))
        return Job(self.arguments(config, *overrides), **options)

    def linear_job(self, method: str, checkpoint: Path, /, **changes: Any) -> Job:
        """A run of `main_linear.py` on a checkpoint of that method, over stand-ins of CIFAR-10, one epoch.

        Ten classes, for solo-learn's evaluation asks for the top five whatever their number.
        """
        config: dict[str, Any] = {
            **_HYDRA,
            "name": "linear",
            "pretrain_method": method,
            "pretrained_feature_extractor": str(checkpoint),
            "backbone": METHODS[method].get("backbone", {"name": "resnet18"}),
            "data": {
                "dataset": "cifar10",
                "train_path": str(self.data / "train"),
                "val_path": str(self.data / "val"),
                "format": "image_folder",
                "num_workers": 0,
            },
            "optimizer": {"name": "sgd", "batch_size": 8, "lr": 0.1, "weight_decay": 0},
            "scheduler": {"name": "step", "lr_decay_steps": [10]},
            "max_epochs": 1,
            **_TRAINER,
            **changes,
        }
        path = self._written(f"linear-{method}-{next(self._numbers)}", config)
        return Job(self.arguments(path), script="main_linear.py", record=False, small_data_sets=True)

    def make_job(self, arguments: list[str], **options: Any) -> Job:
        """A run of any script, by its arguments."""
        return Job(arguments, **options)

    def run(self, *jobs: Job, timeout: float = 300, **environment: str) -> list[Outcome]:
        """Run the jobs one after another in one process of solo-learn; an outcome for each."""
        number = next(self._numbers)
        folder = self.folder / f"run-{number}"
        folder.mkdir()
        listed = [
            {
                "name": f"{number}.{i}",
                "script": str(self.checkout / job.script),
                "arguments": job.arguments,
                "result": str(folder / f"{i}.result"),
                "small_data_sets": job.small_data_sets,
                "cuda_is_cpu": job.cuda_is_cpu,
                "check_targets": job.check_targets,
                "watch_reading": job.watch_reading,
                "taus": job.taus,
                "by_hand": job.by_hand,
                **({"record": str(folder / f"{i}.record")} if job.record else {}),
                **({"kill_at": list(job.kill_at)} if job.kill_at else {}),
            }
            for i, job in enumerate(jobs)
        ]
        (folder / "jobs.json").write_text(json.dumps(listed))
        environment = self.environment(SOLO_JOBS=str(folder / "jobs.json"), **environment)
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(DRIVER)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        seconds = time.monotonic() - started
        outcomes = []
        for i, _ in enumerate(jobs):
            result_file = folder / f"{i}.result"
            result = {"ok": False, "error": f"exit {done.returncode}: {done.stdout[-3000:]}", "seconds": seconds}
            if result_file.exists():
                result = json.loads(result_file.read_text())
            part = done.stdout.partition(f"=== job {number}.{i}\n")[2].partition("=== job ")[0]
            began = f"=== job {number}.{i}\n" in done.stdout
            ranks = [
                [json.loads(line) for line in path.read_text().splitlines()]
                for path in sorted(folder.glob(f"{i}.record.rank*"))
            ]
            log = folder / f"{i}.record.read"
            read = {int(line) for line in log.read_text().split()} if log.exists() else set()
            error = result["error"] + "\n" + result.get("trace", "")
            output = part if began else done.stdout
            outcomes.append(Outcome(result["ok"], error, result["seconds"], output, ranks, read))
        return outcomes
