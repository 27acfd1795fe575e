"""The `selection` key of a configuration: a policy's name, or a mapping with its name and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from rela_zoo.errors import Problem


class _Option(NamedTuple):
    default: Any
    fits: Callable[[Any], bool]
    expected: str


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and bool(str(value))


_CLUSTERS = _Option(None, _or_null(_whole(2)), "a number of clusters ≥ 2, or null")
_DIMS = _Option(128, _whole(1), "a number of principal components ≥ 1")
_WEIGHTED = _Option(False, lambda value: isinstance(value, bool), "true or false")
_POOL = _Option(None, _or_null(lambda value: _number(value) and 0 < value <= 1), "a fraction in (0, 1], or null")

# The options of each policy, documented in `rela_zoo/conf/rela/default.yaml`.
_OPTIONS: dict[str, dict[str, _Option]] = {
    "uniform": {},
    "balanced": {"clusters": _CLUSTERS, "dims": _DIMS, "weighted": _WEIGHTED},
    "coverage": {
        "centres": _Option(None, _or_null(_whole(2)), "a number of centres ≥ 2, or null"),
        "dims": _DIMS,
        "weighted": _WEIGHTED,
    },
    "dedup": {
        "threshold": _Option(0.95, lambda value: _number(value) and 0 < value <= 1, "a cosine in (0, 1]"),
        "clusters": _CLUSTERS,
        "dims": _DIMS,
        "weighted": _WEIGHTED,
    },
    "prototypical": {"pool": _POOL, "clusters": _CLUSTERS, "dims": _DIMS},
    "hard": {"pool": _POOL, "clusters": _CLUSTERS, "dims": _DIMS},
    "loss": {
        "momentum": _Option(0.5, lambda value: _number(value) and 0 <= value < 1, "a number in [0, 1)"),
        "uniform_share": _Option(0.25, lambda value: _number(value) and 0 < value <= 1, "a fraction in (0, 1]"),
        "weighted": _WEIGHTED._replace(default=True),
    },
    "curriculum": {
        "phases": _Option(
            ({"name": "prototypical", "until": 0.5}, {"name": "uniform"}),
            lambda value: isinstance(value, list | tuple) and len(value) > 0,
            "a list of policies, each with `until`, a fraction of max_epochs; the last one without",
        ),
        "growth": _Option(1.0, lambda value: _number(value) and value > 0, "a number > 0"),
    },
    "replay": {"path": _Option(None, _is_path, "a folder written by `rela-zoo subset export`")},
}
_RECORD = _Option(None, _or_null(_is_path), "a folder to write each epoch's samples to, or null")

POLICIES = tuple(_OPTIONS)
# Those that look at the prior's embeddings.
_GEOMETRIC = ("balanced", "coverage", "dedup", "prototypical", "hard")


@dataclass(frozen=True)
class SelectionConfig:
    """A checked policy with all of its options.

    Attributes:
        name: of the policy.
        options: by name, defaults filled in; `phases` of a curriculum are `(until, SelectionConfig)` pairs.
        record: folder to which the samples of each epoch are written, or None.
    """

    name: str
    options: Mapping[str, Any]
    record: str | None = None

    def parts(self) -> list[SelectionConfig]:
        """The policies it is made of: itself, or the phases of a curriculum."""
        return [phase for _, phase in self.options["phases"]] if self.name == "curriculum" else [self]

    @property
    def needs_embeddings(self) -> bool:
        """Whether the policy looks at the prior's embeddings."""
        return any(part.name in _GEOMETRIC for part in self.parts())

    @property
    def needs_ids(self) -> bool:
        """Whether samples must be known by id: to be replayed, or recorded."""
        return self.name == "replay" or self.record is not None

    @property
    def needs_losses(self) -> bool:
        """Whether the policy looks at the losses of the accelerated stage."""
        return any(part.name == "loss" for part in self.parts())

    @property
    def largest_share(self) -> float:
        """The largest epoch of the training over the average one."""
        growth = float(self.options.get("growth", 1.0))
        return 2.0 * max(1.0, growth) / (1.0 + growth)

    def plain(self) -> dict[str, Any]:
        """Name and options as plain data: what decides which samples are drawn, for checkpoints and exports."""
        values = dict(self.options)
        if "phases" in values:
            values["phases"] = [{**phase.plain(), "until": until} for until, phase in values["phases"]]
        return {"name": self.name, **values}

    def __str__(self) -> str:
        if self.name == "curriculum":
            phases = ", ".join(f"{phase.name} until {until:g}" for until, phase in self.options["phases"])
            return f"curriculum ({phases}; growth {self.options['growth']:g})"
        return self.name


def parse_selection(section: Any, ratio: float, key: str = "rela.selection") -> tuple[SelectionConfig, list[Problem]]:
    """Check a `selection` key.

    Args:
        section: the name of a policy, or a mapping with `name` and its options.
        ratio: `data_ratio`, which some options must leave room for; in (0, 1].
        key: the dotted key, for problems.

    Returns:
        The policy (`uniform` where it can't be told) and every problem found.
    """
    fallback = SelectionConfig("uniform", {})
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        expected = "the name of a policy, or a mapping with its name and options"
        return fallback, [Problem(key, expected, repr(section), f"set {key}=uniform; known: {', '.join(POLICIES)}")]
    name = section["name"]
    if name not in _OPTIONS:
        near = get_close_matches(name, POLICIES, n=1)
        fix = f"did you mean {near[0]}?" if near else f"set {key}=uniform"
        return fallback, [Problem(key, " or ".join(POLICIES), repr(name), fix)]
    options, problems = {**_OPTIONS[name], "record": _RECORD}, []
    for given in section:
        if given not in options and given != "name":
            near = get_close_matches(str(given), options, n=1)
            fix = f"did you mean {near[0]}?" if near else f"remove it; {name} takes {', '.join(options)}"
            problems.append(Problem(f"{key}.{given}", f"an option of {name}", repr(section[given]), fix))
    values = {option: section.get(option, spec.default) for option, spec in options.items()}
    for option, spec in options.items():
        if not spec.fits(values[option]):
            default = spec.default if not isinstance(spec.default, tuple) else "[{name: uniform}]"
            fix = f"set {key}.{option}={'null' if default is None else default}"
            if name == "replay":
                fix = f"set {key}={{name: replay, path: FOLDER}}"
            problems.append(Problem(f"{key}.{option}", spec.expected, repr(values[option]), fix))
    if problems:
        return fallback, problems
    record = values.pop("record")
    if values.get("path") is not None:
        values["path"] = str(values["path"])
    if name == "curriculum":
        phases, problems = _phases(values["phases"], ratio, f"{key}.phases")
        values["phases"] = phases
    config = SelectionConfig(name, values, None if record is None else str(record))
    if not problems:
        problems = _check_room(config, ratio, key)
    return config, problems


def _phases(listed: Any, ratio: float, key: str) -> tuple[tuple[tuple[float, SelectionConfig], ...], list[Problem]]:
    phases: list[tuple[float, SelectionConfig]] = []
    problems: list[Problem] = []
    before = 0.0
    for number, phase in enumerate(listed):
        last, place = number == len(listed) - 1, f"{key}.{number}"
        given = {"name": phase} if isinstance(phase, str) else phase
        if not isinstance(given, Mapping):
            problems.append(Problem(place, "a policy with `until`", repr(phase), f"set {place}={{name: uniform}}"))
            continue
        until: Any = given.get("until", 1.0 if last else None)
        if not _number(until) or not before < until <= 1.0 or (until == 1.0) != last:
            expected = "1, or nothing, in the last phase" if last else f"a fraction above {before:g} and below 1"
            problems.append(Problem(f"{place}.until", expected, repr(until), "let `until` rise from phase to phase"))
        else:
            before = float(until)
        config, found = parse_selection({k: v for k, v in given.items() if k != "until"}, ratio, place)
        if config.name in ("curriculum", "replay"):
            found.append(
                Problem(f"{place}.name", "a policy that isn't a schedule itself", config.name, "choose another")
            )
        if config.record is not None:
            found.append(Problem(f"{place}.record", "nothing in a phase", config.record, f"set it beside {key}"))
        problems += found
        phases.append((before, config))
    return tuple(phases), problems


def _check_room(config: SelectionConfig, ratio: float, key: str) -> list[Problem]:
    """What only shows in options and ratio together."""
    problems = []
    largest = ratio * config.largest_share
    if largest > 1.0 + 1e-9:
        growth = config.options["growth"]
        expected = f"a growth whose largest epoch fits into the data: data_ratio={ratio:g} is the average"
        got = f"{growth:g}, which would take {largest:.2f} of the data in one epoch"
        fix = "lower rela.data_ratio, or bring the growth nearer to 1"
        problems.append(Problem(f"{key}.growth", expected, got, fix))
    for part in config.parts():
        pool = part.options.get("pool")
        if pool is not None and pool < largest - 1e-9:
            expected = f"at least {largest:g}, the fraction of the data drawn in an epoch"
            problems.append(Problem(f"{key}.pool", expected, f"{pool:g}", "raise it, or set it to null"))
    return problems
