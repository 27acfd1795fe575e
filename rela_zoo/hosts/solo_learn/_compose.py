"""What Hydra makes of a command line and a file with `rela` in them, where that is not what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.config_group import lost_settings


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuse a command line that Hydra itself can't compose, before it tries: it would advise what doesn't help.

    Args:
        arguments: of a script of solo-learn.

    Raises:
        ConfigError: `rela=null`; or, in a sweep over priors, keys of `rela` that need `++` there.
    """
    problems = [*_nulls(arguments), *_beside_sweep(arguments)]
    if problems:
        raise ConfigError(problems)


def _nulls(arguments: Sequence[str]) -> list[Problem]:
    fix = "leave it out; ~rela where the defaults list of the file names a prior; rela=default for no prior"
    return [
        Problem("rela", "the name of a prior", one, fix)
        for one in arguments
        if one.replace(" ", "").lstrip("+") == "rela=null"
    ]


def _beside_sweep(arguments: Sequence[str]) -> list[Problem]:
    """`rela.KEY=VALUE` beside `-m +rela=A,B`: Hydra composes first what all runs share, and that has no `rela` yet."""
    if not any(one in ("-m", "--multirun") or one == "hydra.mode=MULTIRUN" for one in arguments):
        return []
    swept = next((one for one in arguments if one.startswith("+") and _sweeps(one, "rela")), None)
    return [
        Problem(
            one.partition("=")[0],
            f"++{one} in a sweep over priors",
            f"{one} beside {swept}: Hydra first composes what all runs share, where no prior is named",
            f"write -m {swept} ++{one}",
        )
        for one in arguments
        if swept is not None and one.startswith("rela.") and "=" in one and not _sweeps(one)
    ]


def _sweeps(override: str, key: str | None = None) -> bool:
    """Whether an override gives several values (to `key`)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False  # Hydra will say so itself
    return parsed.is_sweep_override() and key in (None, parsed.key_or_group)


def check_composed(cfg: Any) -> list[Problem]:
    """Find keys of the file's own `rela: {…}` that the entry of a prior lies over.

    Args:
        cfg: the whole configuration, as Hydra gave it to the script.

    Returns:
        A problem for each; none where the configuration did not come by Hydra from a file.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    ours = HydraConfig.get()
    name = str(ours.job.config_name or "")
    places = [Path(one.path) for one in ours.runtime.config_sources if one.schema == "file"]
    names = [name] if name.endswith((".yaml", ".yml")) else [f"{name}.yaml", f"{name}.yml"]
    file = next((place / one for place in places for one in names if (place / one).is_file()), None)
    return [] if file is None else lost_settings(file, cfg, list(ours.overrides.task))
