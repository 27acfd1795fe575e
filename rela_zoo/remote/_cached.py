"""Whether a file of the Hub is in its cache, without the Hub's library, which takes a second to import."""

from __future__ import annotations

import os
from pathlib import Path

from rela_zoo.remote._fetch import Kind


def hub_cache() -> Path:
    """The folder of the Hub's cache, as its library finds it from the environment."""
    user = os.environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = os.path.expanduser(os.path.expandvars(os.environ.get("HF_HOME", os.path.join(user, "huggingface"))))
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(os.path.expanduser(os.path.expandvars(os.environ.get("HF_HUB_CACHE", older))))


def cached_file(repo: str, path: str, revision: str | None, kind: Kind = "model") -> Path | None:
    """A file of a repository in the Hub's cache; None if it is not there. Not checked in any way.

    Args:
        repo: `org/name`.
        path: inside the repository.
        revision: full commit; None for the newest that was fetched.
        kind: of the repository.
    """
    folder = hub_cache() / f"{kind}s--{repo.replace('/', '--')}"
    if revision is None:
        try:
            revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    found = folder / "snapshots" / revision / path
    return found if found.is_file() else None
