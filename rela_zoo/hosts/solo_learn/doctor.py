"""What `rela-zoo doctor` looks at: each check says what was found and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rela_zoo._io.paths import home
from rela_zoo._io.text import without_password
from rela_zoo.hosts.solo_learn._check import knn_works
from rela_zoo.hosts.solo_learn.find import INSTALL_COMMAND, TESTED_COMMIT, find_solo_learn

# Lightning × torchmetrics × solo-learn are tested from its own pins up to the newest.
_MINIMUM_LIGHTNING = (2, 1)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: of the check.
        status: `ok`; `warning`, where something works less well or is not needed by all; `problem`.
        found: what there is.
        mend: what to do; empty when nothing is to be done.
    """

    name: str
    status: str
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def check_solo_learn() -> Finding:
    """Is there a Hydra-based solo-learn, and at which commit?"""
    solo = find_solo_learn()
    if solo is None:
        found = "not found (SOLO_LEARN_ROOT can name a checkout); nothing but `rela-zoo run` needs it"
        return Finding("solo-learn", "warning", found, f"only for that: {INSTALL_COMMAND}")
    found = f"{solo.version or 'version unknown'} at {solo.package}, commit {(solo.commit or 'unknown')[:8]}"
    if not solo.is_hydra_based:
        return Finding("solo-learn", "problem", f"{found}: the old release, not configured by Hydra", INSTALL_COMMAND)
    if solo.commit is not None and solo.commit != TESTED_COMMIT:
        mend = f"if something fails: git -C {solo.checkout or 'CHECKOUT'} checkout {TESTED_COMMIT[:8]}"
        return Finding("solo-learn", "warning", f"{found}; tested with {TESTED_COMMIT[:8]}", mend)
    return Finding("solo-learn", "ok", found)


def check_lightning() -> Finding:
    """Are Lightning and torchmetrics of versions that are tested?"""
    try:
        lightning, torchmetrics = metadata.version("lightning"), metadata.version("torchmetrics")
    except metadata.PackageNotFoundError as error:
        return Finding("lightning", "problem", f"{error.name} is not installed", "pip install lightning torchmetrics")
    found = f"lightning {lightning}, torchmetrics {torchmetrics}"
    if tuple(int(part) for part in lightning.split(".")[:2]) < _MINIMUM_LIGHTNING:
        return Finding("lightning", "problem", found, "pip install 'lightning>=2.1'")
    if not knn_works():
        mend = "only for these two: pip install 'torchmetrics<1'"
        return Finding(
            "lightning", "warning", f"{found}: solo-learn's knn_eval and main_knn.py need torchmetrics<1", mend
        )
    return Finding("lightning", "ok", found)


def check_plugin() -> Finding:
    """Does Hydra discover the plugin, so that `+rela=NAME` picks a prior and is not just a string?"""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    names = [plugin.__module__ for plugin in Plugins.instance().discover(SearchPathPlugin)]
    if "hydra_plugins.rela_zoo.search_path" in names:
        return Finding("plugin", "ok", "Hydra discovers hydra_plugins.rela_zoo")
    mend = "start with `rela-zoo run SCRIPT …`, which needs no discovery; or reinstall: pip install --force-reinstall "
    package = sys.modules.get("hydra_plugins")
    if getattr(package, "__file__", None):
        return Finding(
            "plugin",
            "problem",
            f"Hydra does not discover it: {package.__file__} hides all other plugins",  # type: ignore[union-attr]
            f"remove that file (hydra_plugins must have no __init__.py), or {mend}rela-zoo",
        )
    return Finding("plugin", "problem", "Hydra does not discover it", f"{mend}rela-zoo")


def _within(seconds: float, ask: Callable[[], str]) -> str | None:
    """What `ask` returns, or None if it takes longer; even a name look-up that hangs can't hold the caller."""
    answer: list[str] = []
    thread = threading.Thread(target=lambda: answer.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else None


def check_hub(timeout: float = 5.0) -> Finding:
    """Does the Hub answer within `timeout` seconds?"""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("hub", "warning", "HF_HUB_OFFLINE is set: only what is cached can be used", "unset it to pull")

    def ask() -> str:
        import urllib.error
        import urllib.request

        try:
            with urllib.request.urlopen(f"{endpoint}/api/models?limit=1", timeout=timeout):
                return ""
        except urllib.error.HTTPError as error:
            return "" if error.code < 500 else f"HTTP {error.code}"
        except (OSError, ValueError) as error:
            return str(getattr(error, "reason", error)) or type(error).__name__

    mend = "check network, proxy and HF_ENDPOINT; without the Hub, priors in the cache and local ones still work"
    problem = _within(timeout + 1.0, ask)
    endpoint = without_password(endpoint)
    if problem is None:
        return Finding("hub", "warning", f"{endpoint} did not answer within {timeout:g} s", mend)
    if problem:
        return Finding("hub", "warning", f"{endpoint} can't be reached: {problem}", mend)
    return Finding("hub", "ok", f"{endpoint} answers")


def check_cache() -> Finding:
    """Can the folder of artefacts be written, and is there room?"""
    folder = home()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        mend = "set RELA_ZOO_HOME to a folder that can be written"
        return Finding("cache", "problem", f"{folder} can't be written", mend)
    free = shutil.disk_usage(nearest).free / 2**30
    found = f"{folder}, {free:.1f} GiB free"
    if free < 5:
        return Finding("cache", "warning", found, "set RELA_ZOO_HOME to a larger disk: CLIP on ImageNet takes 1.3 GiB")
    return Finding("cache", "ok", found)


def check_gpu() -> Finding:
    """Is there a CUDA device?"""
    import torch

    if not torch.cuda.is_available():
        mend = "solo-learn's configurations ask for accelerator=gpu; on a CPU set accelerator=cpu devices='1'"
        return Finding("gpu", "warning", f"none seen by torch {torch.__version__}", mend)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("gpu", "ok", f"{', '.join(names)} (torch {torch.__version__})")


def check_script(script: Path) -> Finding:
    """Does a script import with the solo-learn that stands beside it?"""
    solo = find_solo_learn(script)
    if not script.is_file():
        return Finding("script", "problem", f"there is no {script}", "give the path of main_pretrain.py")
    if solo is None:
        return Finding("script", "problem", "no solo-learn beside it or in this environment", INSTALL_COMMAND)
    return Finding("script", "ok", f"{script}, with {solo.package}")


def examine(script: Path | None = None) -> list[Finding]:
    """Make every check, slow ones last."""
    findings = [check_solo_learn(), check_lightning(), check_plugin(), check_cache(), check_hub(), check_gpu()]
    return [*findings, *([check_script(script)] if script is not None else [])]
