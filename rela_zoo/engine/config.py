"""The `rela` section of a configuration: its keys, their checks, every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, ValidationInfo, field_validator

from rela_zoo._io.fields import Fix, PathText, Problems, Section
from rela_zoo._io.paths import rela_defaults as rela_defaults
from rela_zoo._io.validation import placed, validate, within
from rela_zoo.data.view_config import View
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.registry import SELF as SELF
from rela_zoo.selection import SelectionConfig, read_selection

_Names = Annotated[
    PathText | Annotated[tuple[PathText, ...], Field(min_length=1)] | None,
    BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
    Field(description="a name, a path, a list of them, or null"),
    Fix("set {key}=null, or name one; `rela-zoo list` shows the priors"),
]


class RelaConfig(Section):
    """The checked `rela` section; the keys are documented in `rela_zoo/conf/rela/default.yaml`."""

    # Defaults are checked too: what is wrong may be that something else was left at its default.
    model_config = ConfigDict(validate_default=True)

    prior: _Names = None
    data_ratio: Annotated[
        float,
        Field(gt=0, le=1, description="a number in (0, 1]"),
        Fix("set {key}=0.2 for a fifth of the data in each epoch"),
    ] = 0.2
    embeddings: _Names = None
    transport: _Names = None
    power: Annotated[
        float,
        Field(ge=0, le=1, description="a number in [0, 1]"),
        Fix("set {key}=1.0 to standardise the targets, or 0.0 for principal components alone"),
    ] = 0.5
    components: Annotated[
        Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)] | None,
        Field(description="a number of components ≥ 1, a fraction of the variance in (0, 1), or null"),
        Fix("set {key}=0.99 to keep 99 % of the variance"),
    ] = None
    head: Literal["frozen", "trained", "mlp"] = "trained"
    handover: Annotated[
        Literal["adaptive", "plateau", "surpass"] | Annotated[float, Field(ge=0, le=1)],
        Field(description="'adaptive', 'plateau', 'surpass' or a fraction of max_epochs in [0, 1]"),
    ] = "adaptive"
    handover_at: Literal["epoch", "step"] = "epoch"
    rewarm: bool = False
    mix: Annotated[
        Literal["linear"] | Annotated[float, Field(ge=0, le=1)],
        Field(description="'linear' or a share in [0, 1]"),
        Fix("set {key}=0.0 for the method's own loss alone after the handover"),
    ] = 0.0
    selection: InstanceOf[SelectionConfig] = "uniform"  # type: ignore[assignment]
    preprocessing: Literal["upstream", "rela-reference"] = "upstream"
    augmentations: Annotated[
        Literal["rela", "method"] | tuple[Mapping[str, Any], ...],
        Field(description="rela, method, or a list of views"),
    ] = "rela"
    views_on: Literal["auto", "device", "workers"] = "workers"
    cache: Literal["none", "memory", "device", "auto"] = "none"
    verify: Annotated[
        Literal["required"] | Annotated[int, Field(ge=0)],
        Field(description="a number of samples ≥ 0, or required"),
        Fix("set {key}=8, required, or 0 to turn the check off"),
    ] = 8
    seed: (
        Annotated[int, Field(ge=0, description="an integer ≥ 0, or null"), Fix("set {key}=null to use the run's seed")]
        | None
    ) = None

    @property
    def priors(self) -> tuple[str, ...]:
        """The priors, in the order of the configuration; none without one."""
        return _listed(self.prior)

    @property
    def by_prior(self) -> list[tuple[str, str | None, str | None]]:
        """Of each prior: its name, its embeddings, its transport."""
        none = [None] * len(self.priors)
        rows, moved = _listed(self.embeddings) or none, _listed(self.transport) or none
        return list(zip(self.priors, rows, moved, strict=True))

    @property
    def accelerates(self) -> bool:
        """Whether there is an accelerated stage at all: a prior, and a handover that isn't at the very start."""
        return self.prior is not None and self.handover != 0.0

    @property
    def mixes(self) -> bool:
        """Whether the accelerated loss has a share in the method's own stage."""
        return self.prior is not None and self.mix != 0.0 and self.handover != 1.0

    @property
    def has_targets(self) -> bool:
        """Whether the accelerated loss is used at all."""
        return self.accelerates or self.mixes

    @property
    def samples_verified(self) -> int:
        """How many samples are embedded again."""
        return 8 if self.verify == "required" else self.verify

    @property
    def needs_embeddings(self) -> bool:
        """Whether the prior's embeddings are used at all: as targets, or to choose samples."""
        return self.has_targets or self.selection.needs_embeddings

    # A key that is wrong by itself is missing from `info.data`: then nothing is said about what depends on it.

    @field_validator("prior")
    @classmethod
    def _each_once(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise Problems([Problem("", "each prior once", repr(list(value)), "name each prior once in {key}")])
        return value

    @field_validator("embeddings", "transport")
    @classmethod
    def _of_a_prior(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> str | tuple[str, ...] | None:
        prior = info.data.get("prior", "?")
        if value is not None and prior is None:
            expected, fix = "null when rela.prior is null", "name the prior they come from, or set {key}=null"
            raise Problems([Problem("", expected, repr(value), fix)])
        if value is not None and prior != "?" and len(_listed(value)) != len(_listed(prior)):
            fix = "give one for each prior, in their order, or set {key}=null"
            raise Problems([Problem("", f"one for each of {len(_listed(prior))} priors", repr(value), fix)])
        return value

    @field_validator("selection", mode="before")
    @classmethod
    def _checked_selection(cls, given: Any, info: ValidationInfo) -> SelectionConfig:
        if isinstance(given, SelectionConfig):
            return given
        selection, problems = read_selection(given, info.data.get("data_ratio", 0.0))
        without = info.data.get("prior", "?") is None
        if selection.needs_embeddings and without:
            expected = "uniform without a prior, whose embeddings it looks at"
            problems.append(Problem("", expected, repr(given), "name a prior in rela.prior"))
        if selection.needs_losses and (without or info.data.get("handover") == 0):
            expected = "a policy that doesn't look at the losses of the accelerated stage, where there is none"
            fix = "name a prior, with a handover later than 0, or choose another policy"
            problems.append(Problem("", expected, repr(given), fix))
        if problems:
            raise Problems(problems)
        return selection

    @field_validator("cache")
    @classmethod
    def _where_views_are_made(cls, cache: str, info: ValidationInfo) -> str:
        if cache == "device" and info.data.get("views_on") == "workers":
            fix = "set rela.views_on=device, or {key}=memory"
            raise Problems([Problem("", "none, memory or auto with rela.views_on=workers", repr(cache), fix)])
        return cache

    @field_validator("augmentations", mode="before")
    @classmethod
    def _checked_views(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        problems = [one for i, view in enumerate(given) for one in within(str(i), validate(View, view)[1])]
        if problems:
            raise Problems(problems)
        return tuple(given) or given


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def parse_rela(section: Any) -> RelaConfig:
    """Check a `rela` section, given as a mapping with any of the documented keys.

    Raises:
        ConfigError: with every problem found, by dotted key. A bare string is one: it is what `+rela=NAME` becomes
            when the plugin that provides the config group was not discovered.
    """
    if not isinstance(section, Mapping):
        got, fix = repr(section), "see the README"
        if isinstance(section, str):
            got = f"the bare string {section!r}"
            fix = "start with `rela-zoo run SCRIPT …`, and see `rela-zoo doctor` for why Hydra did not find the plugin"
        raise ConfigError([Problem("rela", "a section with prior, data_ratio, …", got, fix)])
    config, problems = validate(RelaConfig, dict(section))
    if config is None:
        raise ConfigError(placed("rela", problems))
    return config
