"""Where this package keeps things on the user's machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any


def home() -> Path:
    """The folder of caches and private registry entries: `RELA_ZOO_HOME`, else `~/.rela_zoo`. Not created here."""
    return Path(os.environ.get("RELA_ZOO_HOME", "~/.rela_zoo")).expanduser()


def user_registry() -> Path:
    """The folder of the user's own YAML entries, one a prior."""
    return home() / "registry"


def user_weights() -> Path:
    """The folder where a user puts weight files that can't be downloaded; an entry's error names the exact file."""
    return home() / "weights"


def artefact_cache() -> Path:
    """The folder of embeddings and transports computed on this machine."""
    return home() / "artefacts"


def packaged_registry() -> Path:
    """The registry shipped with the package: inside it when installed from a wheel, beside it in a checkout."""
    inside = Path(str(files("rela_zoo"))) / "_registry"
    return inside if inside.is_dir() else inside.parent.parent / "registry"


def packaged_weights() -> Path:
    """The folder of weights shipped inside the package."""
    return Path(str(files("rela_zoo"))) / "weights"


def packaged_configs() -> Path:
    """The folder of Hydra configurations shipped inside the package."""
    return Path(str(files("rela_zoo"))) / "conf"


@lru_cache(maxsize=1)
def rela_defaults() -> Mapping[str, Any]:
    """Every key of `rela` with its default, from the one YAML that documents them."""
    import yaml

    return yaml.safe_load((packaged_configs() / "rela" / "default.yaml").read_text(encoding="utf-8"))
