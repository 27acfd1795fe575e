"""Images that can't be decoded, found before anything is trained on them."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from rela_zoo._io.log import logger
from rela_zoo._io.progress import Progress
from rela_zoo.data._arrays import SubsetSource
from rela_zoo.data._decode import UndecodableImageError
from rela_zoo.data._source import ImageSource
from rela_zoo.errors import EmbeddingsError

log = logger(__name__)


def undecodable(source: ImageSource) -> list[str]:
    """Ids of the images that can't be decoded: every image is decoded once, in threads.

    Examples:
        >>> from rela_zoo.data import image_source, undecodable
        >>> undecodable(image_source("photos"))
        []
    """

    def broken(index: int) -> bool:
        try:
            source.image(index)
        except UndecodableImageError:
            return True
        return False

    found = []
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as threads,
        Progress("looking for images that can't be decoded", len(source), unit="images") as bar,
    ):
        for index, bad in enumerate(threads.map(broken, range(len(source)))):
            found += [source.ids[index]] if bad else []
            bar.advance(1)
    return found


def readable(source: ImageSource, on_error: Literal["raise", "skip"]) -> ImageSource:
    """The images that a command works on, alike in all of them.

    Args:
        source: as opened.
        on_error: `skip` decodes every image once, leaves out those that can't be, and says so; `raise` leaves it to
            whoever comes to one to refuse it.

    Raises:
        EmbeddingsError: none is left.
    """
    broken = undecodable(source) if on_error == "skip" else []
    if not broken:
        return source
    if len(broken) == len(source):
        raise EmbeddingsError(
            "no image of this data set can be decoded", expected="at least one", got=f"{len(broken)} that can't be",
            fix=f"look at {broken[0]!r}",
        )  # fmt: skip
    log.warning("%s images are left out, for they can't be decoded: %s, …", f"{len(broken):,}", broken[0])
    return without(source, broken)


def without(source: ImageSource, ids: Collection[str]) -> ImageSource:
    """The source without some of its images; others that are named change nothing."""
    left_out = set(ids)
    kept = [index for index, one in enumerate(source.ids) if one not in left_out]
    return source if len(kept) == len(source) else SubsetSource(source, kept)
