"""The `rela` section of a configuration: its keys, their checks, every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io.paths import packaged_configs
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.selection import SelectionConfig, parse_selection


@dataclass(frozen=True)
class RelaConfig:
    """The checked `rela` section; the keys are documented in `rela_zoo/conf/rela/default.yaml`."""

    prior: str | None
    data_ratio: float
    embeddings: str | None
    transport: str | None
    head: str
    handover: str | float
    handover_at: str
    selection: SelectionConfig
    preprocessing: str
    augmentations: str | tuple[Mapping[str, Any], ...]
    verify: int
    seed: int | None

    @property
    def accelerates(self) -> bool:
        """Whether there is an accelerated stage at all: a prior, and a handover that isn't at the very start."""
        return self.prior is not None and self.handover != 0.0

    @property
    def needs_embeddings(self) -> bool:
        """Whether the prior's embeddings are used at all: as targets, or to choose samples."""
        return self.accelerates or self.selection.needs_embeddings


@lru_cache(maxsize=1)
def rela_defaults() -> Mapping[str, Any]:
    """Every key of `rela` with its default, from the one YAML that documents them."""
    return yaml.safe_load((packaged_configs() / "rela" / "default.yaml").read_text(encoding="utf-8"))


_CHOICES: dict[str, tuple[str, ...]] = {
    "head": ("frozen", "trained"),
    "handover_at": ("epoch", "step"),
    "preprocessing": ("upstream", "rela-reference"),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(values: dict[str, Any]) -> list[Problem]:
    """Find every problem; puts the parsed selection into the place of the given one."""
    problems = []

    def wrong(key: str, expected: str, fix: str) -> None:
        problems.append(Problem(f"rela.{key}", expected, repr(values[key]), fix))

    for key, choices in _CHOICES.items():
        if values[key] not in choices:
            wrong(key, " or ".join(choices), f"set rela.{key}={choices[0]}")
    ratio_fits = _is_number(values["data_ratio"]) and 0 < values["data_ratio"] <= 1
    if not ratio_fits:
        wrong("data_ratio", "a number in (0, 1]", "set rela.data_ratio=0.2 for a fifth of the data in each epoch")
    handover = values["handover"]
    if handover != "adaptive" and not (_is_number(handover) and 0 <= handover <= 1):
        wrong("handover", "'adaptive' or a fraction of max_epochs in [0, 1]", "set rela.handover=adaptive")
    for key in ("prior", "embeddings", "transport"):
        if values[key] is not None and not (isinstance(values[key], str | Path) and str(values[key])):
            wrong(key, "a name, a path, or null", f"set rela.{key}=null, or name one; `rela-zoo list` shows the priors")
    if values["prior"] is None:
        for key in ("embeddings", "transport"):
            if values[key] is not None:
                wrong(key, "null when rela.prior is null", f"name the prior they come from, or set rela.{key}=null")
    given = values["selection"]
    selection, found = parse_selection(given, float(values["data_ratio"]) if ratio_fits else 0.0)
    problems += found
    if selection.needs_embeddings and values["prior"] is None:
        wrong("selection", "uniform without a prior, whose embeddings it looks at", "name a prior in rela.prior")
    if selection.needs_losses and (values["prior"] is None or handover == 0):
        expected = "a policy that doesn't look at the losses of the accelerated stage, where there is none"
        wrong("selection", expected, "name a prior, with a handover later than 0, or choose another policy")
    values["selection"] = selection
    if isinstance(values["verify"], bool) or not isinstance(values["verify"], int) or values["verify"] < 0:
        wrong("verify", "a number of samples ≥ 0", "set rela.verify=8, or 0 to turn the check off")
    seed = values["seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        wrong("seed", "an integer ≥ 0, or null", "set rela.seed=null to use the run's seed")
    views = values["augmentations"]
    named = isinstance(views, str) and views in ("rela", "method")
    listed = isinstance(views, list | tuple) and len(views) > 0
    if not named and not listed:
        wrong("augmentations", "rela, method, or a list of views", "set rela.augmentations=rela")
    return problems


def parse_rela(section: Any) -> RelaConfig:
    """Check a `rela` section, given as a mapping with any of the documented keys.

    Raises:
        ConfigError: with every problem found, by dotted key. A bare string is one: it is what `+rela=NAME` becomes
            when the plugin that provides the config group was not discovered.
    """
    if isinstance(section, str):
        fix = "start with `rela-zoo run SCRIPT …`, and see `rela-zoo doctor` for why Hydra did not find the plugin"
        raise ConfigError([Problem("rela", "a section with prior, data_ratio, …", f"the bare string {section!r}", fix)])
    if not isinstance(section, Mapping):
        raise ConfigError([Problem("rela", "a section with prior, data_ratio, …", repr(section), "see the README")])
    from difflib import get_close_matches

    defaults = rela_defaults()
    problems = []
    for key in section:
        if key not in defaults:
            near = get_close_matches(str(key), defaults, n=1)
            fix = f"did you mean rela.{near[0]}?" if near else f"remove it; known keys: {', '.join(defaults)}"
            problems.append(Problem(f"rela.{key}", "a known key", repr(section[key]), fix))
    values = {**defaults, **{key: value for key, value in section.items() if key in defaults}}
    problems += _check(values)
    if problems:
        raise ConfigError(problems)
    for key in ("prior", "embeddings", "transport"):
        values[key] = None if values[key] is None else str(values[key])
    if not isinstance(values["augmentations"], str):
        values["augmentations"] = tuple(values["augmentations"])
    if _is_number(values["handover"]):
        values["handover"] = float(values["handover"])
    values["data_ratio"] = float(values["data_ratio"])
    return RelaConfig(**{field.name: values[field.name] for field in fields(RelaConfig)})
