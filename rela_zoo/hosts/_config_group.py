"""The config group `rela` for Hydra: one entry a prior, so that a configuration picks it by name."""

from __future__ import annotations

GROUP = "rela"


def register_rela_group() -> None:
    """Store `rela/default`, and `rela/<name>` for each registered prior and alias, in Hydra's ConfigStore.

    Each entry is the default section (`rela_zoo/conf/rela/default.yaml`) with its prior filled in, under the key
    `rela`. Storing twice changes nothing.
    """
    from hydra.core.config_store import ConfigStore

    from rela_zoo.config import rela_defaults
    from rela_zoo.registry import list_priors

    store = ConfigStore.instance()
    defaults = dict(rela_defaults())
    store.store(group=GROUP, name="default", package=GROUP, node=defaults, provider="rela_zoo")
    for spec in list_priors():
        for name in (spec.id, *spec.aliases):
            node = {**defaults, "prior": spec.id}
            store.store(group=GROUP, name=name, package=GROUP, node=node, provider="rela_zoo")
