"""The Hydra config group `rela`: one entry a prior, for the built-in host and for solo-learn's own programs."""

from __future__ import annotations

import re

# What Hydra's grammar takes as the value of an override without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")


def group_names() -> list[str]:
    """The entries of the group besides `default`: ids and aliases of all registered priors."""
    from rela_zoo.registry import list_priors

    names = {name for spec in list_priors() for name in (spec.id, *spec.aliases)}
    return sorted(name for name in names if _PLAIN.fullmatch(name) and name != "default")


def register_rela_group(*, default: bool = True) -> list[str]:
    """Put the group into Hydra's ConfigStore: `rela=NAME`, `rela=default`; calling it again changes nothing.

    Each entry is `rela_zoo/conf/rela/default.yaml` with the prior's name in it.

    Args:
        default: whether to put `default` in too. Not where the package's own folder is on Hydra's search path and
            provides it: Hydra would take the one for the schema of the other.

    Returns:
        The names of the group, `default` included.
    """
    from hydra.core.config_store import ConfigStore

    from rela_zoo.engine.config import rela_defaults

    store = ConfigStore.instance()
    names = ["default", *group_names()]
    if not default:
        # The store is the whole process's: an earlier call may have put it in.
        store.repo.get("rela", {}).pop("default.yaml", None)
    for name in names if default else names[1:]:
        prior = None if name == "default" else name
        store.store(group="rela", name=name, node={**rela_defaults(), "prior": prior}, provider="rela_zoo")
    return names
