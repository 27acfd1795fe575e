"""Data sets of the Hub by address, `hf://datasets/org/name[@revision][/path]`: their files at one commit."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rela_zoo._io.log import logger
from rela_zoo._io.progress import Progress
from rela_zoo.data._folders import FileSource, folder_source
from rela_zoo.data._listing import EXTENSIONS, Listing, is_hidden
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._patterns import expand_braces
from rela_zoo.data._source import ImageSource, LeftOut
from rela_zoo.data._splits import NAMES, by_split_name, split_source
from rela_zoo.data._tars import TarSource
from rela_zoo.errors import EmbeddingsError
from rela_zoo.remote import (
    cached_file,
    contents,
    fetch_unsigned,
    is_commit,
    is_offline,
    mirror_address,
    resolve_commit,
)

log = logger(__name__)

_PART = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"hf://datasets/(?P<repo>{_PART}/{_PART})(?:@(?P<ref>[\w.-]+))?(?:/(?P<path>[^@]*))?")
_THREADS = 8
# Folders that say nothing of which data set of a repository their files belong to.
_PLAIN = {"", "data", *NAMES}


def hub_source(address: str, wanted: Sequence[str] | None, insist: bool) -> ImageSource:
    """The images of a data set on the Hub: its parquet files, else its tars, else its pictures.

    Only the files of the split that is taken are fetched, each at the commit and checked by its hash; ids are those of
    the same files in a folder. Tars that are named themselves are not fetched, but read by range at the commit.

    Args:
        address: with a folder, a file or a pattern of the repository behind it, if not all of it is meant.
        wanted: splits asked for, the first there being taken; None for none.
        insist: whether one of them must be there.

    Raises:
        EmbeddingsError: no address, no images, several data sets in the repository, or the wrong split.
        HubError: out of reach.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in address.split("/"):
        raise EmbeddingsError(
            "this is no data set on the Hub", expected="hf://datasets/org/name, or …@COMMIT, or …@COMMIT/folder",
            got=address[:200], fix="copy the name from its page",
        )  # fmt: skip
    repo, ref, path = match["repo"], match["ref"], (match["path"] or "").strip("/")
    commit = resolve_commit(repo, ref, "dataset")
    name = f"hf://datasets/{repo}@{commit}" + (f"/{path}" if path else "")
    if not is_commit(ref):
        log.warning("%s is %s today; write the commit to stay with it", address, name)
    files = _below(list(contents(repo, commit, "dataset").files), path)
    kinds = (".parquet", ".tar", EXTENSIONS)
    names = next((found for kind in kinds if (found := [one for one in files if one.lower().endswith(kind)])), None)
    if not names:
        raise EmbeddingsError(
            f"{name} holds no images", expected="parquet files, tars or pictures",
            got=", ".join(files[:3]) or "no files", fix="name a folder that holds them, or another data set",
        )  # fmt: skip
    by_split = {split: [one.as_posix() for one in found] for split, found in by_split_name(Path(), names).items()}

    def make(chosen: Sequence[Path], left_out: tuple[LeftOut, ...]) -> ImageSource:
        picked = [one.as_posix() for one in chosen]
        if not names[0].lower().endswith(EXTENSIONS):
            _check_one(name, picked)
        if path.lower().endswith(".tar") and _lie_elsewhere(repo, commit, picked):
            return TarSource([f"hf://datasets/{repo}@{commit}/{one}" for one in picked], left_out)
        fetched = _fetched(repo, commit, picked)
        if picked[0].endswith(".parquet"):
            return ParquetSource(fetched, left_out)
        if picked[0].endswith(".tar"):
            return TarSource(fetched, left_out)
        return _pictures(fetched, picked, left_out)

    chosen = {split: [Path(one) for one in found] for split, found in by_split.items()}
    return split_source(name, chosen, wanted, insist, make)


def _lie_elsewhere(repo: str, commit: str, names: Sequence[str]) -> bool:
    """Whether files have to be asked for, and can be."""
    if is_offline() or mirror_address() is not None:
        return False
    return any(cached_file(repo, one, commit, "dataset") is None for one in names)


def _below(files: Sequence[str], path: str) -> list[str]:
    """The files of a repository at a path, in a folder, or by a pattern."""
    files = sorted(one for one in files if not any(is_hidden(part) for part in one.split("/")))
    if not path:
        return files
    patterns = expand_braces(path)
    return [
        one
        for one in files
        if any(one.startswith(f"{p}/") or one == p or fnmatch.fnmatchcase(one, p) for p in patterns)
    ]


def _check_one(name: str, files: Sequence[str]) -> None:
    """Refuse files of several data sets (configurations), which lie in folders of their own."""
    homes = sorted({"/".join(part for part in one.split("/")[:-1] if part not in _PLAIN) for one in files})
    if len(homes) > 1:
        raise EmbeddingsError(
            f"{name} holds several data sets", expected="one", got=", ".join(one or "(root)" for one in homes[:5]),
            fix=f"name the folder of one: {name}/{homes[-1]}",
        )  # fmt: skip


def _fetched(repo: str, commit: str, names: Sequence[str]) -> list[Path]:
    with (
        Progress(f"fetching {repo}", len(names), unit="files") as bar,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        found = []
        for path in pool.map(lambda one: fetch_unsigned(repo, one, commit, "dataset"), names):
            found.append(path)
            bar.advance(1)
    return found


def _pictures(fetched: Sequence[Path], names: Sequence[str], left_out: tuple[LeftOut, ...]) -> FileSource:
    """Pictures as of the folder that holds them all, or of that of their split."""
    folder = os.path.commonpath([os.path.dirname(one) for one in names]) if names else ""
    parts = folder.split("/") if folder else []
    # Of one class only its folder is common to all; a split's folder ends what may be left away.
    depth = next((i + 1 for i, part in enumerate(parts) if part in NAMES), max(0, len(parts) - 1))
    top = "/".join(parts[:depth])
    root = Path(str(fetched[0])[: -len(names[0])]) / top
    inside = [one[len(top) :].lstrip("/") for one in names]
    folders = sorted({one.split("/", 1)[0] for one in inside if "/" in one})
    found = folder_source(root, Listing(images=inside, folders=folders))
    assert found is not None  # there is at least one
    found.left_out += left_out
    return found
