"""One run of the grid: `rela_zoo.hosts.builtin.train.train` on its configuration, watched; and its row of results."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import rela_zoo
from experiments._grid import Run, embeddings_folder
from experiments._watch import Deadline, HeldOut, Watch, judged_epochs
from rela_zoo import embed, list_priors, load_prior
from rela_zoo._io.files import atomic_write
from rela_zoo._io.paths import user_weights
from rela_zoo.data import image_source
from rela_zoo.demo import environment
from rela_zoo.engine.config import SELF
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.config import normalisation, resolve_config
from rela_zoo.hosts.builtin.train import initial_method, train

Row = dict[str, Any]
ENGINE = "product"
# Keys that change no number: nothing is kept but the row.
QUIET = {"checkpoint": {"enabled": False}, "auto_resume": {"enabled": False}, "enable_progress_bar": False}


def link_weights(folder: Path) -> None:
    """Put the weight files of a folder where the package looks for those that can't be downloaded."""
    for spec in list_priors():
        if spec.source == "local" and spec.file and (folder / spec.file).is_file():
            place = user_weights() / spec.id / spec.file
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to((folder / spec.file).resolve())


def prepare(run: Run) -> str | None:
    """How a user makes what the run needs beforehand, or None."""
    section = run.config.get("rela") or {}
    if section.get("embeddings") is None:
        return None
    return f"rela-zoo embed {section['prior']} {run.config['data']['train_path']} --out {section['embeddings']}"


def embed_once(prior: str, data: str) -> dict[str, Any]:
    """Embed a data file in the work folder (the present one), and note what it cost; or read what it had cost.

    Returns:
        `prior_seconds`, `prior_cpu_seconds` (on the machine that embedded, all threads) and `prior_flops`.
    """
    folder = Path(embeddings_folder(prior, data))
    note = folder.with_name(f"{folder.name}.cost.json")
    if not note.is_file():
        # What an earlier call has left would cost nothing.
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        source, network = image_source(data), load_prior(prior)
        started, spent = time.perf_counter(), time.process_time()
        embed(network, source, folder)
        seconds, cpu = time.perf_counter() - started, time.process_time() - spent
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(network.transform(source.image(0))[None])
        cost = {
            "prior_seconds": round(seconds, 3),
            "prior_cpu_seconds": round(cpu, 3),
            "prior_flops": counter.get_total_flops() * len(source),
        }
        atomic_write(note, json.dumps(cost).encode())
    return json.loads(note.read_text())


class TimeIsUp(Exception):
    """A run has been stopped between two epochs; made again, it goes on from there."""


def make(run: Run, times: int, until: float | None = None) -> Row:
    """Train and judge one student, in the work folder; returns its row.

    Args:
        run: of the grid.
        times: how often it is judged in training.
        until: when to stop, by `time.monotonic()`; a run that has a time to stop at goes on from its last epoch.

    Raises:
        TimeIsUp: it has been stopped.
    """
    config = {**run.config, **QUIET}
    if until is not None and not run.untrained:
        kept = {"enabled": True, "dir": "checkpoints", "frequency": 1, "keep_prev": False}
        config |= {"checkpoint": kept, "auto_resume": {"enabled": True}}
    data = check(config)
    mean, std = normalisation(resolve_config(config, len(data.train.classes)))
    judge = HeldOut(data.train, data.val, config["augmentations"][0]["crop_size"], mean, std)
    section = config.get("rela") or {}
    accelerates = section.get("prior") is not None and section["handover"] != 0.0
    cost = {"prior_seconds": 0.0, "prior_cpu_seconds": 0.0, "prior_flops": 0}
    if section.get("prior") not in (None, SELF):
        cost = embed_once(section["prior"], config["data"]["train_path"])
    epochs = set() if run.untrained else judged_epochs(config["max_epochs"], times)
    watch = Watch(judge, epochs, accelerates=accelerates, spent=(cost["prior_seconds"], cost["prior_flops"]))
    if run.untrained:
        none = {"samples_seen": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0, "flops": 0}
        watch.curve.append({"epoch": 0, **none, **judge(initial_method(config).backbone)})
        online = None
    else:
        deadline = Deadline(math.inf if until is None else until)
        history = train(config, callbacks=[watch, deadline]).history
        if deadline.reached:
            raise TimeIsUp
        online = history[-1].get("val_acc1")
    last = watch.curve[-1]
    return {
        "engine": ENGINE,
        "run": run.digest,
        "untrained": run.untrained,
        "images": len(data.train),
        **{key: last[key] for key in last if key != "epoch"},
        # As `rela-zoo pretrain` says it, for whoever repeats the run.
        "online_accuracy": None if online is None else round(online / 100, 4),
        "handover_step": watch.handover_step,
        "steps_per_epoch": watch.steps_per_epoch,
        "step_flops": watch.step_flops,
        **cost,
        "curve": watch.curve,
        "losses": [round(loss, 5) for loss in watch.losses],
        **made_by(),
        "prepare": prepare(run),
        "command": run.command,
        "config": run.config,
    }


def made_by() -> dict[str, Any]:
    """`hardware` in words, and `versions`: packages, and a digest of this project's modules, a checkout being any."""
    found, root, code = environment(), Path(rela_zoo.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    cpu = f"{found['cpu']}, {found['torch_threads']} of {found['cores']} cores"
    versions = {"python": found["python"], **found["versions"], "code": code.hexdigest()[:12]}
    return {"hardware": found["gpu"] or cpu, "versions": versions}
