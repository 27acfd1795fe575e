"""Where solo-learn is, and which one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from rela_zoo.errors import RelaZooError

# The commit this package is tested against. The package index only has 1.0.2 of 2022, which is no Hydra program yet.
TESTED_VERSION = "1.0.6"
TESTED_COMMIT = "9187ea39c2c3f43c455ab06664d2b019a9802954"
REPOSITORY = "https://github.com/vturrisi/solo-learn"
INSTALL_COMMAND = (
    f"git clone {REPOSITORY} && git -C solo-learn checkout 9187ea39 && echo 'setuptools<81' > constraint.txt && "
    "pip install --no-deps --build-constraint constraint.txt ./solo-learn && "
    "pip install einops scipy h5py wandb 'setuptools<81'"
)


class SoloLearnError(RelaZooError):
    """solo-learn is missing, or not the one this package works with."""


@dataclass(frozen=True)
class SoloLearn:
    """One copy of solo-learn: its importable package, and its checkout if that is known."""

    package: Path
    checkout: Path | None
    version: str | None
    commit: str | None

    @property
    def is_hydra_based(self) -> bool:
        """Whether its methods are configured by Hydra; false for the old release on the package index."""
        return (self.package / "args" / "pretrain.py").is_file()


def _git_commit(checkout: Path) -> str | None:
    """HEAD of a checkout; None for a folder that is none, or without git."""
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _installed_from() -> tuple[str | None, Path | None, str | None]:
    """Version, checkout and commit, as pip noted them at installation."""
    try:
        found = metadata.distribution("solo-learn")
    except metadata.PackageNotFoundError:
        return None, None, None
    noted = found.read_text("direct_url.json")
    if noted is None:
        return found.version, None, None
    source = json.loads(noted)
    if "vcs_info" in source:
        return found.version, None, source["vcs_info"].get("commit_id")
    url = urlparse(source.get("url", ""))
    checkout = Path(unquote(url.path)) if url.scheme == "file" else None
    if checkout is None or not checkout.is_dir():
        return found.version, None, None
    return found.version, checkout, _git_commit(checkout)


def find_solo_learn(script: Path | None = None) -> SoloLearn | None:
    """Look for solo-learn without importing it: beside `script`, in `SOLO_LEARN_ROOT`, then in the environment.

    Args:
        script: a script of the user's, such as `main_pretrain.py`; Python puts its folder first on the path.

    Returns:
        What was found; None if nothing was.
    """
    roots = [script.resolve().parent] if script is not None else []
    if os.environ.get("SOLO_LEARN_ROOT"):
        roots.append(Path(os.environ["SOLO_LEARN_ROOT"]).expanduser().resolve())
    version, checkout, commit = _installed_from()
    for root in roots:
        if (root / "solo" / "methods" / "__init__.py").is_file():
            return SoloLearn(root / "solo", root, version, _git_commit(root))
    spec = importlib.util.find_spec("solo")
    for place in list(spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "methods" / "__init__.py").is_file():
            parent = Path(place).parent
            if (parent / "main_pretrain.py").is_file():
                return SoloLearn(Path(place), parent, version, _git_commit(parent))
            return SoloLearn(Path(place), checkout, version, commit)
    return None


def require_solo_learn(script: Path | None = None) -> SoloLearn:
    """`find_solo_learn`, made importable in this process.

    Raises:
        SoloLearnError: if there is none, or only the old release; the message holds the install command.
    """
    found = find_solo_learn(script)
    if found is None:
        raise SoloLearnError(
            "solo-learn was not found",
            expected=f"the package `solo` of solo-learn {TESTED_VERSION} (commit {TESTED_COMMIT[:8]}) in this "
            "environment, or its checkout in SOLO_LEARN_ROOT",
            got=f"SOLO_LEARN_ROOT={os.environ.get('SOLO_LEARN_ROOT', '(not set)')}, and nothing importable",
            fix=INSTALL_COMMAND,
        )
    if not found.is_hydra_based:
        raise SoloLearnError(
            "this solo-learn is the old release of the package index, which is not configured by Hydra",
            expected=f"solo-learn {TESTED_VERSION} (commit {TESTED_COMMIT[:8]})",
            got=f"{found.version or 'an unknown version'} at {found.package}",
            fix=INSTALL_COMMAND,
        )
    root = str(found.package.parent)
    if root not in sys.path:
        sys.path.append(root)
    return found
