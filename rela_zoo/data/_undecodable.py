"""Images that can't be decoded, found before anything is trained on them."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from rela_zoo._io.progress import Progress
from rela_zoo.data._arrays import SubsetSource
from rela_zoo.data._decode import UndecodableImageError
from rela_zoo.data._source import ImageSource


def undecodable(source: ImageSource) -> list[str]:
    """Ids of the images that can't be decoded: every image is decoded once, in threads.

    Example:
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


def without(source: ImageSource, ids: Collection[str]) -> ImageSource:
    """The source without some of its images; others that are named change nothing."""
    left_out = set(ids)
    kept = [index for index, one in enumerate(source.ids) if one not in left_out]
    return source if len(kept) == len(source) else SubsetSource(source, kept)
