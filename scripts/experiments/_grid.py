"""A grid of runs, described in YAML: what may be said, what it is multiplied out to, and each run's digest."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rela_zoo.selection import parse_selection

Settings = dict[str, Any]

METHODS = ("byol", "simclr", "dino")
_WORDS: dict[str, tuple[str, ...]] = {
    "method": ("untrained", *METHODS),
    "stem": ("imagenet", "cifar"),
    "head": ("frozen", "trained"),
    "precision": ("float32", "bfloat16"),
    "views": ("asymmetric", "symmetric", "symmetric_weak"),
}
# Every key of a run, with its default; None where the method decides or where it doesn't apply.
DEFAULTS: Settings = {
    "method": "byol",
    "backbone": "resnet18",  # a timm name
    "stem": "imagenet",  # or `cifar`: 3×3 of stride 1, no max-pooling
    "zero_init": False,  # whether residual branches start at zero: timm's habit, not torchvision's nor solo-learn's
    "prior": None,
    "data_ratio": 1.0,  # of the images, drawn anew each epoch; (0, 1]
    "selection": "uniform",
    "handover": "adaptive",  # or the fraction of the epochs that is accelerated, [0, 1]
    "head": "frozen",
    "seed": 0,
    "images": None,  # training images; None takes all
    "test_images": None,
    "epochs": 20,
    "eval_every": 5,  # epochs; the last one is always evaluated
    "batch_size": 64,
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "warmup": 0.05,  # fraction of the steps in which the learning rate rises linearly
    "views": None,  # of the method's own stage, rela_zoo/conf/augmentations; None: the method's usual ones
    "tau": 0.99,  # of the momentum network at the start; rises to 1 along a cosine
    "hidden_dim": 1024,  # of projector and predictor
    "output_dim": 256,
    "prototypes": 1024,  # DINO
    "temperature": 0.2,  # SimCLR
    "precision": "bfloat16",
    "trim": True,  # leave out filter taps that see only padding: the same numbers, sooner
    "compile": "auto",  # auto: on CUDA only
}
# What can't change a number beyond rounding is not part of a run's identity.
_NOT_IDENTITY = ("trim", "compile")
_USUAL_VIEWS = {"byol": "asymmetric", "dino": "asymmetric", "simclr": "symmetric"}
_ONLY_FOR = {"tau": ("byol", "dino"), "temperature": ("simclr",), "prototypes": ("dino",)}
_TRAINING_ONLY = tuple(
    key
    for key in DEFAULTS
    if key not in ("method", "backbone", "stem", "zero_init", "seed", "images", "test_images", "precision")
)


class GridError(ValueError):
    """A grid that can't be run; the message lists every problem."""


def load_grid(path: Path) -> list[Settings]:
    """Read a grid file and multiply it out: one dictionary a run, in the file's order, no run twice.

    Raises:
        GridError: listing all that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise GridError(f"the grid {path} can't be read ({error.strerror}); expected a YAML file") from error
    return expand(yaml.safe_load(text))


def expand(grid: Any) -> list[Settings]:
    """Multiply out `{defaults: {…}, grids: [{key: value or list of values}, …]}`; the last key of a grid varies first.

    Raises:
        GridError: listing all that is wrong.
    """
    if not isinstance(grid, Mapping) or not isinstance(grid.get("grids"), list) or set(grid) - {"defaults", "grids"}:
        raise GridError("expected a grid of the form `defaults: {…}`, `grids: [{…}, …]`")
    problems: list[str] = []
    runs: dict[str, Settings] = {}
    for number, cell in enumerate(grid["grids"]):
        given = {**(grid.get("defaults") or {}), **cell}
        unknown = sorted(set(given) - set(DEFAULTS))
        if unknown:
            problems.append(f"grids[{number}]: unknown keys {unknown}; known are {sorted(DEFAULTS)}")
            continue
        # Keys of the cell itself vary after those of the defaults, seeds last of all.
        names = sorted(given, key=lambda name: (name == "seed", name in cell))
        choices = [value if isinstance(value := given[name], list) else [value] for name in names]
        for chosen in itertools.product(*choices):
            settings = {**DEFAULTS, **dict(zip(names, chosen, strict=True))}
            wrong = check(settings)
            problems += [f"grids[{number}]: {problem}" for problem in wrong]
            if not wrong:
                settings = normalise(settings)
                runs.setdefault(digest(settings), settings)
    if problems:
        raise GridError("this grid can't be run:\n  " + "\n  ".join(dict.fromkeys(problems)))
    return list(runs.values())


def check(settings: Settings) -> list[str]:
    """All that is wrong with the settings of one run."""
    problems = []
    for key, words in _WORDS.items():
        if settings[key] not in words and not (key == "views" and settings[key] is None):
            problems.append(f"{key}: expected one of {', '.join(words)}, got {settings[key]!r}")
    for key in ("epochs", "eval_every", "batch_size", "hidden_dim", "output_dim", "prototypes"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            problems.append(f"{key}: expected a whole number ≥ 1, got {settings[key]!r}")
    for key in ("images", "test_images"):
        if settings[key] is not None and (not isinstance(settings[key], int) or settings[key] < 2):
            problems.append(f"{key}: expected a whole number ≥ 2 or null for all, got {settings[key]!r}")
    for key, low, high in (
        ("data_ratio", 1e-6, 1),
        ("lr", 0, 1e3),
        ("weight_decay", 0, 1),
        ("warmup", 0, 1),
        ("tau", 0, 1),
    ):
        # YAML reads 1e-3 as a word: it wants 1.0e-3.
        if not _is_number(settings[key]) or not low <= settings[key] <= high:
            problems.append(f"{key}: expected a number in [{low:g}, {high:g}], got {settings[key]!r}")
    if _is_number(settings["data_ratio"]):
        found = parse_selection(settings["selection"], settings["data_ratio"], "selection")[1]
        problems += [str(problem) for problem in found]
    handover = settings["handover"]
    if handover != "adaptive" and not (_is_number(handover) and 0 <= handover <= 1):
        problems.append(f"handover: expected `adaptive` or a fraction in [0, 1], got {handover!r}")
    if not isinstance(settings["zero_init"], bool):
        problems.append(f"zero_init: expected true or false, got {settings['zero_init']!r}")
    if settings["compile"] not in (True, False, "auto"):
        problems.append(f"compile: expected true, false or auto, got {settings['compile']!r}")
    if not isinstance(settings["seed"], int):
        problems.append(f"seed: expected a whole number, got {settings['seed']!r}")
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def normalise(settings: Settings) -> Settings:
    """The same run with None for what doesn't apply to it, so that one run has one digest."""
    out = dict(settings)
    method = out["method"]
    if method == "untrained":
        return {**out, **dict.fromkeys(_TRAINING_ONLY)}
    out["views"] = out["views"] or _USUAL_VIEWS[method]
    for key, methods in _ONLY_FOR.items():
        if method not in methods:
            out[key] = None
    if out["prior"] is None:
        out["handover"] = out["head"] = None
    for key in ("data_ratio", "lr", "weight_decay", "warmup", "tau", "temperature", "handover"):
        if _is_number(out[key]):
            out[key] = float(out[key])
    return out


def digest(settings: Settings) -> str:
    """16 hexadecimal digits that name a run: of all settings that decide its numbers."""
    deciding = {key: value for key, value in settings.items() if key not in _NOT_IDENTITY}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def select(runs: Iterable[Settings], conditions: Iterable[str]) -> list[Settings]:
    """The runs that meet all conditions `key=value`; value is read as YAML.

    Raises:
        GridError: a condition of another form, or of an unknown key.
    """
    wanted = []
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not equals or key not in DEFAULTS:
            raise GridError(f"expected --only KEY=VALUE with a key of {sorted(DEFAULTS)}, got {condition!r}")
        wanted.append((key, yaml.safe_load(text)))
    return [run for run in runs if all(run[key] == value for key, value in wanted)]


def label(settings: Settings) -> str:
    """A run in a few words, for people."""
    if settings["method"] == "untrained":
        return f"untrained, seed {settings['seed']}"
    parts = [settings["method"], f"r={settings['data_ratio']:g}"]
    if settings["prior"]:
        parts.append(f"{settings['prior']} {settings['head']} handover {settings['handover']}")
    if settings["selection"] != "uniform":
        parts.append(selection_name(settings["selection"]))
    return f"{', '.join(parts)}, seed {settings['seed']}"


def selection_name(selection: Any) -> str:
    """`coverage`, or with options `coverage(clusters=20)`."""
    if isinstance(selection, str):
        return selection
    options = ", ".join(f"{key}={value}" for key, value in selection.items() if key != "name")
    return f"{selection['name']}({options})" if options else selection["name"]
