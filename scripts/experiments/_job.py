"""One run of the grid, from settings to a row of results."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments import _grid, _subset
from experiments._augment import Augmentation
from experiments._backbone import build_backbone
from experiments._data import Images, read_images
from experiments._engine import Progress, Training
from experiments._flops import step_flops
from experiments._priors import embed, find_prior
from experiments._probe import evaluate
from experiments._student import Student
from rela_zoo import __version__
from rela_zoo.data.views import RELA_VIEW
from rela_zoo.transport import fit_transport

Settings = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "torchvision", "timm", "numpy")


class Job:
    """Where a run finds its data, and on what it runs.

    Args:
        data: folder with train.parquet and test.parquet, or with a folder `cifar10` of them.
        priors: folder of public networks, or None.
        cache: folder for decoded images and embeddings.
        device: `cpu`, `cuda`, ….
        command: how to repeat the run, for the record.
    """

    def __init__(self, data: Path, priors: Path | None, cache: Path, device: torch.device, command: str) -> None:
        # Either the folder of the files or the one above it.
        data = data if (data / "train.parquet").is_file() or not (data / "cifar10").is_dir() else data / "cifar10"
        self._data, self._priors, self._cache, self._device, self._command = data, priors, cache, device, command

    def run(self, settings: Settings) -> dict[str, Any]:
        """Train and judge one student; returns its row."""
        train = read_images(self._data / "train.parquet", self._cache, settings["images"], self._device)
        test = read_images(self._data / "test.parquet", self._cache, settings["test_images"], self._device)
        if settings["method"] == "untrained":
            torch.manual_seed(settings["seed"])
            kind = {"trim": False, "zero_init": settings["zero_init"], "size": train.pixels.shape[-1]}
            backbone = build_backbone(settings["backbone"], settings["stem"], **kind)
            found = evaluate(backbone.to(self._device), train, test, settings["precision"])
            return self._row(settings, train, Progress(), [{"epoch": 0, **_costs(Progress(), 0, 0), **found}], {})
        return self._train(settings, train, test)

    def _train(self, settings: Settings, train: Images, test: Images) -> dict[str, Any]:
        rows, transport, targets, prior_cost = None, None, None, {"prior_seconds": 0.0, "prior_flops": 0}
        target_dim = None
        if settings["prior"] is not None:
            embeddings = embed(find_prior(settings["prior"], self._priors), train, self._cache)
            started = time.perf_counter()
            rows = embeddings.rows
            transport = fit_transport(rows)
            target_dim = transport.max_dim
            prior_cost = {"prior_seconds": embeddings.seconds, "prior_flops": embeddings.flops}
        # Here, for building a prior draws from the same generator, and a cached one isn't built.
        torch.manual_seed(settings["seed"])
        student = Student(settings, target_dim, trim=settings["trim"])
        if student.rela_head is not None:
            targets = transport.to(self._device)(rows, dim=student.rela_head.out_features)
            prior_cost["prior_seconds"] += time.perf_counter() - started
        student.to(self._device)
        flops = step_flops(settings, target_dim, train.pixels.shape[-1])
        started = time.perf_counter()
        subset = _subset.build(settings, n=len(train), rows=rows, transport=transport, device=self._device)
        # What the policy computes at the start is part of what using the prior costs.
        prior_cost["prior_seconds"] += time.perf_counter() - started
        training = Training(settings, student, train, targets, subset, augmentations(settings, self._device), flops)
        more = {**prior_cost, "step_flops": flops}
        if settings["compile"] is True or (settings["compile"] == "auto" and self._device.type == "cuda"):
            student.compile_backbones()
            more["warm_up_seconds"] = training.warm_up()
        curve: list[dict[str, Any]] = []

        def after_epoch(epoch: int) -> None:
            progress, found = training.progress, {}
            if epoch % settings["eval_every"] == 0 or epoch == settings["epochs"]:
                found = evaluate(student.backbone, train, test, settings["precision"])
                curve.append({"epoch": epoch, **_costs(progress, *prior_cost.values()), **found})
            self._tell(settings, epoch, progress, found)

        progress = training.train(after_epoch)
        return self._row(settings, train, progress, curve, more)

    def _tell(self, settings: Settings, epoch: int, progress: Progress, found: dict[str, float]) -> None:
        accuracies = f", linear {found['linear_accuracy']:.3f}, k-NN {found['knn_accuracy']:.3f}" if found else ""
        print(
            f"{_grid.label(settings)}: epoch {epoch}/{settings['epochs']} ({progress.stages[-1]}), "
            f"loss {progress.losses[-1]:.4f}, {progress.wall_seconds:.1f} s{accuracies}",
            file=sys.stderr,
            flush=True,
        )

    def _row(
        self, settings: Settings, train: Images, progress: Progress, curve: list[dict[str, Any]], more: dict[str, Any]
    ) -> dict[str, Any]:
        last = curve[-1]
        return {
            "run": _grid.digest(settings),
            **settings,
            "images": len(train),
            **{key: last[key] for key in last if key != "epoch"},
            "handover_step": progress.handover_step,
            "steps_per_epoch": progress.steps_per_epoch,
            **more,
            "curve": curve,
            "losses": [round(loss, 5) for loss in progress.losses],
            "hardware": hardware(self._device),
            "versions": versions(),
            "command": self._command,
        }


def augmentations(settings: Settings, device: torch.device) -> dict[str, Augmentation]:
    """The views of both stages: the method's own ones, and the accelerated stage's milder ones."""
    path = _ROOT / "rela_zoo" / "conf" / "augmentations" / f"{settings['views']}.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    mild = {**RELA_VIEW, "crop_size": own[0]["crop_size"], "num_crops": 2}
    # The stages draw from generators of their own, and so do runs of different seeds.
    seed = 2 * settings["seed"]
    return {"own": Augmentation(own, device, seed), "accelerated": Augmentation([mild], device, seed + 1)}


def _costs(progress: Progress, prior_seconds: float, prior_flops: int) -> dict[str, float]:
    """What a user has paid so far: training and the embedding of the data by the prior, not the judging."""
    return {
        "samples_seen": progress.samples_seen,
        "wall_seconds": round(progress.wall_seconds + prior_seconds, 3),
        # Of training alone; on a machine that does other work, too, the better measure of it.
        "cpu_seconds": round(progress.cpu_seconds, 3),
        "flops": progress.flops + prior_flops,
    }


def versions() -> dict[str, str]:
    """What made a row: packages, and a digest of this folder's modules, for a checkout may be at any commit."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("_*.py")):
        code.update(path.read_bytes())
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages, "rela_zoo": __version__, "code": code.hexdigest()[:12]}


def hardware(device: torch.device) -> str:
    """The machine in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
