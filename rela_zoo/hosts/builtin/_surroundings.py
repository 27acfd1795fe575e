"""What a configuration says about machine and launcher: values that the trainer takes, and places to write to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from rela_zoo._io.fields import choose
from rela_zoo._io.text import listed
from rela_zoo.errors import Problem

# What the host sets itself, so that a configuration's own says nothing here.
_SET_HERE = ("logger", "enable_checkpointing", "callbacks", "default_root_dir")


def trainer_values(cfg: Mapping[str, Any]) -> list[Problem]:
    """Accelerators, strategies and precisions that this machine's Lightning does not have.

    Args:
        cfg: a whole configuration, plain.
    """
    from lightning.fabric.plugins.precision import precision as fabric
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    problems = []
    accelerators = ["auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())]
    name = cfg.get("accelerator")
    if name not in accelerators:
        problems.append(_choice("accelerator", name, accelerators))
    elif name not in ("auto", "gpu", "cuda", "cpu") and not AcceleratorRegistry[name]["accelerator"].is_available():
        problems.append(Problem("accelerator", "one that this machine has", repr(name), "set accelerator=auto"))
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    strategy = cfg.get("strategy") or "auto"
    if isinstance(strategy, str) and strategy not in strategies:
        problems.append(_choice("strategy", strategy, [one for one in strategies if not _shares_memory(one)]))
    elif isinstance(strategy, str) and _shares_memory(strategy):
        fix = "set strategy=ddp, whose processes start by the same command; results of spawned ones are lost"
        problems.append(Problem("strategy", "processes that are started anew", repr(strategy), fix))
    known = [
        str(one)
        for kind in ("_PRECISION_INPUT_STR", "_PRECISION_INPUT_STR_ALIAS", "_PRECISION_INPUT_INT")
        for one in get_args(getattr(fabric, kind, ()))
    ]
    if known and cfg.get("precision") is not None and str(cfg["precision"]) not in known:
        problems.append(_choice("precision", cfg["precision"], list(dict.fromkeys(known))))
    return problems


def _shares_memory(strategy: str) -> bool:
    return any(part in strategy for part in ("spawn", "fork", "notebook"))


def _choice(key: str, value: Any, known: list[str]) -> Problem:
    return Problem(key, listed(known), repr(value), choose(value, known).format(key=key))


def launched_processes() -> int | None:
    """How many processes a launcher such as torchrun has started for this job; None without one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    count = os.environ.get("WORLD_SIZE", "")
    return int(count) if count.isdecimal() else None


def launcher(processes: int) -> list[Problem]:
    """A launcher that has started another number of processes than the configuration says.

    Args:
        processes: of the configuration, over all nodes.
    """
    launched = launched_processes()
    if launched is None or launched == processes:
        return []
    local = os.environ.get("LOCAL_WORLD_SIZE", str(launched))
    nodes = launched // int(local) if local.isdecimal() and int(local) else 1
    fix = f"set devices={local}" + (f" num_nodes={nodes}" if nodes > 1 else "") + ", or let the launcher start fewer"
    return [Problem("devices", f"as many processes as the launcher has started, {launched}", f"{processes}", fix)]


def missing_checkpoint(cfg: Mapping[str, Any]) -> list[Problem]:
    """A checkpoint to go on from that is not there."""
    path = cfg.get("resume_from_checkpoint")
    if path is None or Path(str(path)).expanduser().is_file():
        return []
    fix = "name one, or set auto_resume.enabled=true"
    return [Problem("resume_from_checkpoint", "an existing checkpoint", repr(path), fix)]


def places(cfg: Mapping[str, Any]) -> list[Problem]:
    """Folders that can't be written to, and results that would land among the data."""
    if not cfg["checkpoint"].get("enabled"):
        return []
    folder = Path(str(cfg["checkpoint"]["dir"])).expanduser().absolute()
    problems = []
    reason = why_not_writable(folder)
    if reason:
        problems.append(
            Problem("checkpoint.dir", "a folder that can be written to", reason, "set checkpoint.dir to another")
        )
    for key in ("train_path", "val_path"):
        data = cfg["data"].get(key)
        if isinstance(data, str) and inside(folder, Path(data).expanduser()):
            fix = "set checkpoint.dir to a folder outside it"
            problems.append(Problem("checkpoint.dir", f"a folder outside data.{key}", str(folder), fix))
    return problems


def inside(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, links followed."""
    return path.resolve().is_relative_to(folder.resolve()) if folder.is_dir() else False


def why_not_writable(folder: Path) -> str | None:
    """What keeps this process from writing into a folder that may not exist yet; None if nothing does."""
    nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} can't be written to"
    return None


def ignored(given: Mapping[str, Any], method_keys: Iterable[str]) -> list[str]:
    """Dotted keys that are set and mean nothing to this host.

    Args:
        given: the configuration as the user wrote it, plain.
        method_keys: of `method_kwargs`, that the method takes.
    """
    found = [key for key in _SET_HERE if given.get(key) not in (None, False)]
    for section in ("dali", "auto_umap"):
        values = given.get(section)
        if isinstance(values, Mapping) and values.get("enabled"):
            found.append(f"{section}.enabled")
    kwargs = given.get("method_kwargs")
    known = set(method_keys)
    return found + [
        f"method_kwargs.{key}" for key in (kwargs if isinstance(kwargs, Mapping) else ()) if key not in known
    ]


def never_reached(cfg: Mapping[str, Any]) -> list[str]:
    """Parts of the learning rate's schedule that lie behind the end of the training, in words."""
    schedule, epochs = cfg["scheduler"], cfg["max_epochs"]
    notes = []
    if schedule["name"] == "warmup_cosine" and schedule["warmup_epochs"] >= epochs:
        notes.append(
            f"scheduler.warmup_epochs={schedule['warmup_epochs']:g} of max_epochs={epochs}: "
            "the learning rate never reaches optimizer.lr"
        )
    late = [one for one in schedule.get("lr_decay_steps") or () if isinstance(one, int | float) and one >= epochs]
    if schedule["name"] == "step" and late:
        notes.append(f"scheduler.lr_decay_steps {late} of max_epochs={epochs} are never reached")
    return notes


def method_values(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Problem]:
    """Values of `method_kwargs` that are of another kind than the method's own.

    Args:
        given: that section.
        defaults: the method's; None where there is none.
    """
    problems = []
    for key, value in given.items():
        default = defaults.get(key)
        if key not in defaults or (default is None and value is None):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, bool):
            good, expected = isinstance(value, bool), "true or false"
        elif key.endswith("_dim") or key == "num_prototypes":
            good, expected = number and float(value).is_integer() and value >= 1, "an integer ≥ 1"
        elif "temperature" in key and not key.endswith("epochs"):
            good, expected = number and value > 0, "a number > 0"
        elif isinstance(default, int):
            good, expected = number and value >= 0, "a number ≥ 0"
        else:
            good, expected = number, "a number"
        if not good:
            usual = "a number" if default is None else str(default).lower() if isinstance(default, bool) else default
            problems.append(Problem(f"method_kwargs.{key}", expected, repr(value), f"set method_kwargs.{key}={usual}"))
    return problems
