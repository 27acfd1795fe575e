"""Hydra configurations of the built-in host: found, composed with overrides and priors, run without chatter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo._io.fields import did_you_mean
from rela_zoo._io.paths import packaged_configs
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def packaged_names() -> list[str]:
    """The configurations shipped with the package: one a method."""
    return sorted(path.stem for path in packaged_configs().glob("*.yaml"))


def resolve_prior_override(overrides: list[str], registered: list[str]) -> list[str]:
    """Let `rela=NAME` name any prior, also those that are no entry of the config group.

    `random-<architecture>`, paths and hf:// addresses become `rela=default rela.prior=…`.

    Raises:
        UnknownPriorError: with the nearest names.
    """
    resolved: list[str] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        name = value.strip("'\"")
        if key.lstrip("+") != "rela" or not equals or name in ("null", "", *registered):
            resolved.append(override)
            continue
        from rela_zoo.registry import prior_spec

        prior_spec(name)
        resolved += [f"{key}=default", f"rela.prior='{name}'"]
    return resolved


def _with_section(overrides: list[str], composed: Callable[[list[str]], DictConfig]) -> list[str]:
    """Let `rela.prior=NAME` stand alone: where nothing else brings a `rela` section, the default one is put in.

    Args:
        overrides: in Hydra's grammar.
        composed: composes with some of them.
    """
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    if "rela" in keys or not any(key.startswith("rela.") for key in keys):
        return overrides
    others = [one for one, key in zip(overrides, keys, strict=True) if not key.startswith("rela.")]
    return overrides if composed(others).get("rela") is not None else ["rela=default", *overrides]


def compose(config_name: str, config_path: Path | None, overrides: list[str]) -> DictConfig:
    """Compose a configuration as Hydra does, with the priors as config group `rela`.

    Args:
        config_name: of a file in `config_path`, with or without `.yaml`.
        config_path: folder of the user's configurations; the package's by default. The package's views and `rela`
            entries are found in either case.
        overrides: in Hydra's grammar.

    Raises:
        RelaZooError: if there is no such configuration, or an override doesn't fit it.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from rela_zoo.hosts.config_group import register_rela_group

    folder = (config_path or packaged_configs()).expanduser().resolve()
    name = config_name.removesuffix(".yaml").removesuffix(".yml")
    file = next((path for suffix in ("yaml", "yml") if (path := folder / f"{name}.{suffix}").is_file()), None)
    if file is None:
        here = sorted(path.stem for path in folder.glob("*.y*ml"))
        near = did_you_mean(name, here)
        raise RelaZooError(
            f"there is no configuration {name!r} in {folder}",
            expected=", ".join(here) or "YAML files in that folder",
            got=name,
            fix=f"did you mean --config-name {near}?" if near else "see `rela-zoo pretrain --help`",
        )
    searches_itself = OmegaConf.select(OmegaConf.load(file), "hydra.searchpath") is not None
    overrides = resolve_prior_override(overrides, register_rela_group(default=searches_itself))
    if config_path is not None and not searches_itself:
        overrides = [f"hydra.searchpath=['file://{packaged_configs()}']", *overrides]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.2"):
            cfg = hydra.compose(name, overrides=_with_section(overrides, lambda some: hydra.compose(name, some)))
    except (HydraException, OmegaConfBaseException) as error:
        raise RelaZooError(
            "the configuration can't be composed",
            got=str(error).strip(),
            fix="see `rela-zoo pretrain --config-name " + name + " --print-config`; a key that is not there yet is "
            "added with +key=value",
        ) from None
    OmegaConf.set_struct(cfg, False)
    return cfg


def silence_lightning() -> None:
    """Lightning's advertisements and its notes on itself are no news to whoever trains."""
    import logging
    import warnings

    # Imported first, for it sets its own level.
    import lightning.pytorch  # noqa: F401

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
