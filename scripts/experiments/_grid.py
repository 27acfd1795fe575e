"""A grid of runs, described in YAML in terms of the product's configuration: what it is multiplied out to."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from rela_zoo.engine.config import SELF
from rela_zoo.errors import RelaZooError
from rela_zoo.hosts.builtin.compose import compose
from rela_zoo.hosts.builtin.config import as_plain, run_digest
from rela_zoo.networks.names import RESNETS, stem_of

# Keys of a cell that are no keys of a configuration.
_OWN = ("config", "untrained")
_TOP: dict[str, Any] = {"data": {}, "judged": 5, "defaults": {}, "grids": []}


class GridError(ValueError):
    """A grid that can't be run; the message lists every problem."""


def embeddings_folder(prior: str, data: str) -> str:
    """Where the embeddings of a data file, or of a folder of images, are, relative to the work folder."""
    path = Path(data)
    name = path.stem if path.suffix == ".parquet" else path.as_posix().strip("/").replace("/", "_")
    return f"embeddings/{prior.replace('/', '_')}/{name}"


@dataclass(frozen=True)
class Run:
    """One row to be.

    Attributes:
        config_name: of a packaged configuration.
        overrides: Hydra key, with its `+` if it has one → value.
        untrained: whether the student is judged as it begins.
    """

    config_name: str
    overrides: Mapping[str, Any] = field(hash=False)
    untrained: bool = False

    @property
    def command(self) -> str:
        """What a user types to train the same, in the work folder."""
        return " ".join(["rela-zoo pretrain --config-name", self.config_name, *map(_quoted, self.words)])

    @property
    def words(self) -> list[str]:
        """The overrides in Hydra's grammar."""
        return [f"{key}={hydra_text(value)}" for key, value in {**self._fixed, **self.overrides}.items()]

    @property
    def _fixed(self) -> dict[str, Any]:
        """Size and stem as they were before they were left to the data, so that a run stays the run that it was."""
        if self.config_name == "demo" or any(key.startswith("augmentations.") for key in self.overrides):
            return {}
        stem = stem_of(self.overrides.get("data.dataset"))
        has_one = self.overrides.get("backbone.name", "resnet18") in RESNETS
        return {"image_size": 32, **({"backbone.stem": stem} if has_one and stem == "imagenet" else {})}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The whole configuration, as `rela-zoo pretrain` composes it."""
        return as_plain(compose(self.config_name, None, self.words))

    @cached_property
    def digest(self) -> str:
        """Names the run, as the product names its folder."""
        return ("untrained-" if self.untrained else "") + run_digest(self.config)

    @property
    def prior(self) -> str | None:
        """The prior's name, or None."""
        group = self.overrides.get("rela")
        return self.overrides.get("rela.prior", None if group in ("default", "reference") else group)

    def on(self, train: str, test: str) -> Run:
        """The same on these files."""
        return Run(
            self.config_name, {**self.overrides, "data.train_path": train, "data.val_path": test}, self.untrained
        ).embedded()

    def embedded(self) -> Run:
        """The same with the embeddings that are made once for all runs of a grid; not of the student itself."""
        given = dict(self.overrides)
        if self.prior is not None and self.prior != SELF:
            given["rela.embeddings"] = embeddings_folder(self.prior, str(given["data.train_path"]))
        return Run(self.config_name, given, self.untrained)

    @property
    def label(self) -> str:
        """The run in a few words, for people."""
        shown = ["untrained" if self.untrained else self.config_name]
        for key, value in self.overrides.items():
            if key == "seed" or (key.startswith("rela") and key != "rela.embeddings"):
                shown.append(f"{key.removeprefix('rela.')}={value}")
        return ", ".join(shown)


@dataclass(frozen=True)
class Grid:
    """What a grid file says: how often a student is judged, and runs; images of each part, without their files.

    `images` is None where the runs name their data themselves.
    """

    images: dict[str, int | None] | None
    judged: int
    runs: list[Run]


def load_grid(path: Path) -> Grid:
    """Read a grid file and multiply it out, in the file's order, no run twice.

    Raises:
        GridError: listing all that is wrong.
    """
    try:
        return expand(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise GridError(f"the grid {path} can't be read ({error.strerror}); expected a YAML file") from error


def expand(grid: Any) -> Grid:
    """Multiply out `{data: …, judged: …, defaults: {…}, grids: [{key: value or list of values}, …]}`.

    The last key of a cell varies first, seeds first of all. A value that is a list itself stands in a list of its own.

    Raises:
        GridError: listing all that is wrong.
    """
    if not isinstance(grid, Mapping) or not isinstance(grid.get("grids"), list) or set(grid) - set(_TOP):
        raise GridError(f"expected a grid with the keys {', '.join(_TOP)}, and in `grids` a list of cells")
    grid = {**_TOP, **grid}
    problems = []
    if grid["data"] is not None and (
        set(grid["data"]) - {"train", "test", "held_out"} or {"test", "held_out"} <= set(grid["data"])
    ):
        problems.append(f"data: expected numbers of images under train, and test or held_out, got {grid['data']}")
    if not isinstance(grid["judged"], int) or grid["judged"] < 1:
        problems.append(f"judged: expected a whole number ≥ 1, got {grid['judged']!r}")
    runs: dict[str, Run] = {}
    for number, cell in enumerate(grid["grids"]):
        given = {**(grid["defaults"] or {}), **cell}
        if not given.get("config"):
            problems.append(f"grids[{number}]: expected `config`, the name of a packaged configuration")
            continue
        # Keys of the cell itself vary after those of the defaults, seeds last of all.
        names = sorted(given, key=lambda name: (name == "seed", name in cell))
        choices = [value if isinstance(value := given[name], list) else [value] for name in names]
        for chosen in itertools.product(*choices):
            values = dict(zip(names, chosen, strict=True))
            overrides = {key: value for key, value in values.items() if key not in _OWN}
            # Hydra takes a group before the keys in it.
            overrides = dict(sorted(overrides.items(), key=lambda item: "." in item[0]))
            if isinstance(overrides.get("rela.prior"), list):
                problems.append(f"grids[{number}]: expected one prior a run, whose cost is known, got a list of them")
            run = Run(str(values["config"]), overrides, bool(values.get("untrained")))
            runs.setdefault(f"{run.untrained} {run.command}", run)
    if problems:
        raise GridError("this grid can't be run:\n  " + "\n  ".join(problems))
    images = None if grid["data"] is None else {"train": None, "test": None, **grid["data"]}
    return Grid(images, grid["judged"], list(runs.values()))


def compose_all(runs: Iterable[Run]) -> None:
    """Compose every run's configuration.

    Raises:
        GridError: listing all that can't be composed.
    """
    problems = []
    for run in runs:
        try:
            _ = run.digest
        except RelaZooError as error:
            problems.append(f"{run.label}: {error}")
    if problems:
        raise GridError("this grid can't be run:\n  " + "\n  ".join(problems))


def select(runs: Iterable[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions `key=value`, where key is dotted or `config`, and value is read as YAML.

    Raises:
        GridError: a condition of another form.
    """
    wanted = []
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not equals:
            raise GridError(f"expected --only KEY=VALUE, got {condition!r}")
        wanted.append((key, yaml.safe_load(text)))

    def meets(run: Run, key: str, value: Any) -> bool:
        own = {"config": run.config_name, "untrained": run.untrained}
        return {**own, **run.overrides}.get(key) == value

    return [run for run in runs if all(meets(run, key, value) for key, value in wanted)]


def hydra_text(value: Any) -> str:
    """A plain value in Hydra's override grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z][\w./-]*", value) and yaml.safe_load(value) == value
        return value if plain else "'" + value.replace("'", r"\'") + "'"
    return json.dumps(value)


def _quoted(word: str) -> str:
    return shlex.quote(word)
