"""Hydra configurations of the built-in host: found, composed with overrides and priors, run without chatter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo._io.paths import packaged_configs
from rela_zoo._io.text import did_you_mean
from rela_zoo.errors import ConfigError, RelaZooError
from rela_zoo.hosts.builtin._overrides import nearest_key, quote_paths, refuse_sweep, without_prior

__all__ = ["compose", "packaged_names", "refuse_sweep", "resolve_prior_override", "silence_lightning"]

if TYPE_CHECKING:
    from omegaconf import DictConfig


def packaged_names() -> list[str]:
    """The configurations shipped with the package: one a method."""
    return sorted(path.stem for path in packaged_configs().glob("*.yaml"))


def resolve_prior_override(overrides: list[str], registered: list[str]) -> list[str]:
    """Let `rela=NAME` name any prior, also those that are no entry of the config group.

    `random-<architecture>`, `self`, paths and hf:// addresses become `rela=default rela.prior=…`.

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
        from rela_zoo.registry import SELF, prior_spec

        if name != SELF:
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
    from yaml import YAMLError

    from rela_zoo.hosts.config_group import lost_settings, register_rela_group

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
    overrides = quote_paths(overrides)
    wanted = list(overrides)
    overrides, no_prior = without_prior(overrides)
    try:
        own = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, ValueError) as error:
        raise RelaZooError(
            f"{file} is no configuration", expected="a YAML mapping", got=" ".join(str(error).split()), fix="mend it"
        ) from None
    if not OmegaConf.is_dict(own):
        raise RelaZooError(
            f"{file} is no configuration", expected="a YAML mapping", got="something else", fix="mend it"
        )
    searches_itself = OmegaConf.select(own, "hydra.searchpath") is not None
    overrides = resolve_prior_override(overrides, register_rela_group(default=searches_itself))
    if config_path is not None and not searches_itself:
        overrides = [f"hydra.searchpath=['file://{packaged_configs()}']", *overrides]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.2"):
            try:
                cfg = hydra.compose(name, overrides=_with_section(overrides, lambda some: hydra.compose(name, some)))
            except HydraException as error:
                raise _not_composed(error, name, lambda: hydra.compose(name)) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise _not_composed(error, name, None) from None
    OmegaConf.set_struct(cfg, False)
    if no_prior:
        cfg.pop("rela", None)
    else:
        problems = lost_settings(file, cfg, wanted)
        if problems:
            raise ConfigError(problems)
    return cfg


def _not_composed(error: Exception, name: str, composed: Callable[[], DictConfig] | None) -> RelaZooError:
    """Hydra's complaint as one of ours, with the key that may have been meant."""
    message = str(error).strip() or type(error).__name__
    near = None if composed is None else nearest_key(message, composed)
    help_ = f"see `rela-zoo config --config-name {name}`; a new key is added with +key=value"
    return RelaZooError(
        "the configuration can't be composed",
        got="\n            ".join(message.splitlines()[:4]),
        fix=help_ if near is None else f"did you mean {near}? Else {help_}",
    )


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
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
