"""The Hydra config group `rela`: one entry a prior, for the built-in host and for solo-learn's own programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rela_zoo.errors import Problem

# What Hydra's grammar takes as the value of an override without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")


# What differs from the defaults in ReLA's reference code (LINs-lab/ReLA at 0223046).
REFERENCE = {"power": 1.0, "head": "frozen"}


def group_names() -> list[str]:
    """The entries of the group besides `default` and `reference`: ids and aliases of all registered priors."""
    from rela_zoo.registry import list_priors

    names = {name for spec in list_priors() for name in (spec.id, *spec.aliases)}
    return sorted(name for name in names if _PLAIN.fullmatch(name) and name not in ("default", "reference"))


def register_rela_group(*, default: bool = True) -> list[str]:
    """Put the group into Hydra's ConfigStore: `rela=NAME`, `rela=default`, `rela=reference`; again changes nothing.

    Each entry is `rela_zoo/conf/rela/default.yaml` with the prior's name in it; `reference` has the reference code's
    targets and head.

    Args:
        default: whether to put `default` in too. Not where the package's own folder is on Hydra's search path and
            provides it: Hydra would take the one for the schema of the other.

    Returns:
        The names of the group, `default` included.
    """
    from hydra.core.config_store import ConfigStore

    from rela_zoo._io.paths import rela_defaults

    store = ConfigStore.instance()
    names = ["default", *group_names()]
    if not default:
        # The store is the whole process's: an earlier call may have put it in.
        store.repo.get("rela", {}).pop("default.yaml", None)
    for name in names if default else names[1:]:
        prior = None if name == "default" else name
        store.store(group="rela", name=name, node={**rela_defaults(), "prior": prior}, provider="rela_zoo")
    store.store(group="rela", name="reference", node={**rela_defaults(), **REFERENCE}, provider="rela_zoo")
    return [*names, "reference"]


def lost_settings(file: Path, cfg: Any, overrides: Sequence[str]) -> list[Problem]:
    """Find what a file says in its own `rela: {…}` and the composed configuration does not: an entry lies over it.

    Args:
        file: the primary configuration, in YAML.
        cfg: what Hydra composed of it, with or without a `rela` section.
        overrides: of the command line, which may change anything.

    Returns:
        A problem for each key that would be lost.
    """
    from omegaconf import OmegaConf

    body, section = OmegaConf.select(OmegaConf.load(file), "rela"), OmegaConf.select(cfg, "rela")
    if not OmegaConf.is_dict(body) or not OmegaConf.is_dict(section):
        return []
    given = {one.partition("=")[0].lstrip("+~") for one in overrides}
    # A prior named on the command line is meant to replace the file's.
    said = given | ({"rela.prior"} if "rela" in given else set())
    wanted: dict[str, Any] = OmegaConf.to_container(body, resolve=False)  # type: ignore[assignment]
    composed: dict[str, Any] = OmegaConf.to_container(section, resolve=False)  # type: ignore[assignment]
    return [
        Problem(
            f"rela.{key}",
            f"{value!r}, as {file.name} says",
            f"{composed.get(key)!r}, for the entry of the prior comes after the file's own keys and lies over them",
            f"put _self_ behind the entry `rela` in the defaults list of {file.name} "
            f"(defaults: [rela: NAME, _self_]), or say rela.{key}={value} on the command line",
        )
        for key, value in wanted.items()
        if composed.get(key) != value and not any(f"{one}.".startswith(f"rela.{key}.") for one in said)
    ]
