"""A checked `rela` section with the prior it names: looked up once; from there on the entry travels, not its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rela_zoo.engine._preflight import preflight
from rela_zoo.engine.config import RelaConfig, parse_rela
from rela_zoo.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rela_zoo.registry import PriorSpec


@dataclass(frozen=True)
class PriorPlan:
    """One prior of a run, and where its artefacts are to come from.

    Attributes:
        config: the checked section.
        name: of the prior, as the section gives it.
        spec: its entry.
        embeddings, transport: its own ones, as the section gives them; None for published or made ones.
    """

    config: RelaConfig
    name: str
    spec: PriorSpec
    embeddings: str | None
    transport: str | None


@dataclass(frozen=True)
class RelaPlan:
    """What a run is to do.

    Attributes:
        config: the checked section.
        priors: in the order of the section; None stands for the student itself (`self`). Empty without a prior.
    """

    config: RelaConfig
    priors: tuple[PriorPlan | None, ...] = ()

    @property
    def only(self) -> PriorPlan:
        """The prior, where there is one, and one alone.

        Raises:
            ConfigError: there is none, there are several, or it is the student itself.
        """
        if len(self.priors) != 1 or self.priors[0] is None:
            fix = "name one prior of `rela-zoo list`"
            raise ConfigError([Problem("rela.prior", "one registered prior", repr(self.config.prior), fix)])
        return self.priors[0]


def plan_rela(section: Any, more: Callable[[], list[Problem]] = list) -> RelaPlan:
    """Check a `rela` section, and all that can be known of it before data, weights or a GPU are touched.

    Args:
        section: a mapping with any keys of `rela_zoo/conf/rela/default.yaml`, or a checked `RelaConfig`.
        more: gives the problems that the host knows of, to be listed with the others.

    Returns:
        The plan.

    Raises:
        ConfigError: with every problem found.

    Examples:
        >>> plan = plan_rela({"prior": "cifar10-resnet20", "data_ratio": 0.5})
        >>> plan.only.spec.dim, plan.config.handover
        (64, 'adaptive')
    """
    try:
        config = section if isinstance(section, RelaConfig) else parse_rela(_plain(section))
    except ConfigError as error:
        raise ConfigError([*error.problems, *more()]) from None
    specs, problems = preflight(config)
    problems += more()
    if problems:
        raise ConfigError(problems)
    parts = zip(config.by_prior, specs, strict=True)
    return RelaPlan(
        config,
        tuple(None if spec is None else PriorPlan(config, name, spec, *its) for (name, *its), spec in parts),
    )


def _plain(section: Any) -> Any:
    """A section as plain data: other mappings (OmegaConf's) say how they are read, lists within them too."""
    if isinstance(section, Mapping):
        return {key: _plain(section[key]) for key in section}
    if hasattr(section, "__iter__") and not isinstance(section, str | bytes):
        return [_plain(one) for one in section]
    return section
