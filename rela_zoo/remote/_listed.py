"""One list of a repository's files, kept where the Hub's client looks before it asks about each of them."""

from __future__ import annotations

from typing import Any

from rela_zoo._io.log import logger
from rela_zoo.errors import HubError
from rela_zoo.remote._client import translated
from rela_zoo.remote._fetch import Kind, is_offline

log = logger(__name__)


def list_once(repo: str, revision: str, kind: Kind, known: str) -> None:
    """Have the client list a repository at a commit, so that it asks nothing about files in the Hub's Xet storage.

    It keeps the list only by `snapshot_download`, which is asked here for a file that the cache has: one request, or
    none if this commit was listed before. About files outside of that storage the client asks whatever it knows. Where
    no list can be had, each file is asked for.

    Args:
        repo, revision, kind: whose; a full commit.
        known: a file that is in the cache.
    """
    from huggingface_hub import constants, snapshot_download
    from tqdm.auto import tqdm

    if constants.HF_HUB_DISABLE_XET or is_offline():
        return

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

    try:
        with translated(f"{repo} can't be listed", repo=repo, revision=revision, kind=kind):
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=known, tqdm_class=Silent)
    except HubError as error:
        log.debug("%s; each file is asked for", error.what)
