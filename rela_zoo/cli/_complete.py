"""What a shell is offered behind a command, by Typer's completion: priors, configurations, keys of configurations."""

from __future__ import annotations

from typing import Any


def priors(incomplete: str) -> list[str]:
    """Names of registered priors that begin so."""
    from rela_zoo.registry import list_priors

    return sorted(spec.id for spec in list_priors() if spec.id.startswith(incomplete))


def configurations(incomplete: str) -> list[str]:
    """Names of packaged configurations that begin so."""
    from rela_zoo.hosts.builtin.compose import packaged_names

    return [name for name in packaged_names() if name.startswith(incomplete)]


def overrides(incomplete: str) -> list[str]:
    """Keys of a configuration that begin so, with `=`; and `rela=PRIOR` for every prior."""
    from rela_zoo._io.paths import rela_defaults
    from rela_zoo.hosts.builtin.schema import HostConfig, section_defaults

    sections = section_defaults()
    fields: Any = HostConfig.model_fields
    inner = [f"{section}.{key}" for section in sections for key in fields[section].annotation.model_fields]
    keys = [*(key for key in fields if key not in sections), *inner, *(f"rela.{key}" for key in rela_defaults())]
    words = [*sorted(f"{key}=" for key in keys), *(f"rela={name}" for name in priors(""))]
    return [word for word in words if word.startswith(incomplete)]
