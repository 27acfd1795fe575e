"""Digests of a few pictures, published with the rows: whether pictures of the same names are these pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rela_zoo.data import ImageSource, UndecodableImageError, pixel_digest
from rela_zoo.embeddings._format import SampleRecord
from rela_zoo.embeddings._pictures import digest_of
from rela_zoo.errors import EmbeddingsError, RelaZooError

if TYPE_CHECKING:
    from rela_zoo.embeddings._table import EmbeddingTable

_SAMPLES = 64
_MOST_SORTED = 1 << 24
_NAMES_PIXELS = re.compile(r"\d+:[0-9a-f]{16}")


class PicturesCheck(NamedTuple):
    """What a comparison of pictures by digest has found.

    Attributes:
        checked: how many could be compared; 0: nothing is known.
        different: ids of those that are other pictures.
    """

    checked: int
    different: tuple[str, ...]

    def refuse(self, what: str, error: type[RelaZooError], fix: str) -> int:
        """How many could be compared, where all of those are the same.

        Args:
            what: is of other pictures, for the message.
            error: to raise.
            fix: what to do.

        Raises:
            RelaZooError: as `error`, with how many differ, and one of them.
        """
        if self.different:
            raise error(
                f"{what} are of other pictures with the same names",
                expected=f"the {self.checked} pictures compared by digest to be the same",
                got=f"{len(self.different)} others, such as {self.different[0]!r}",
                fix=fix,
            )
        return self.checked


def sample_records(source: ImageSource, kept: Sequence[int]) -> dict[str, SampleRecord] | None:
    """Digests of up to 64 pictures, evenly spread; None where the ids name the pixels.

    Spread in the order of ids, so that the order of the source plays no part; or, of more than sixteen million, in that
    of the source: to sort them would take more memory than all the rest.

    Args:
        source: the images.
        kept: positions that have a row.
    """
    ids = source.ids
    order = sorted(kept, key=ids.__getitem__) if len(kept) <= _MOST_SORTED else kept
    picks = [order[int(i)] for i in np.unique(np.linspace(0, len(order) - 1, _SAMPLES).round())] if order else []
    if all(_NAMES_PIXELS.fullmatch(ids[i]) for i in picks):
        return None
    found = {}
    for i in picks:
        try:
            found[ids[i]] = _record(source, i)
        except UndecodableImageError:
            continue  # damaged since its row was made; the next run sees that
    return found


def check_pictures(table: EmbeddingTable, source: ImageSource) -> PicturesCheck:
    """Compare local pictures with those that rows were made of, without the prior.

    A picture is the same if its bytes are, or its decoded pixels: two versions of a JPEG decoder may differ in a bit,
    and a data set may be repacked as PNG.

    Args:
        table: its rows need not be there.
        source: the images, of ids that the table has.
    """
    return compare_pictures(table.info.samples, source)


def compare_pictures(samples: Mapping[str, SampleRecord] | None, source: ImageSource) -> PicturesCheck:
    """The same, of digests kept by `sample_records`; None where there are none, or where the ids name the pixels."""
    if not samples:
        named = [one for one in _spread(source.ids) if _NAMES_PIXELS.fullmatch(one)]
        return PicturesCheck(len(named), ())  # joined by id, so the pixels agree
    checked, different = 0, []
    for position, one in enumerate(source.ids):
        wanted = samples.get(one)
        if wanted is None:
            continue
        checked += 1
        if digest_of(source, position).hex() == wanted.bytes:
            continue
        try:
            same = _record(source, position).pixels == wanted.pixels
        except UndecodableImageError:
            same = False
        if not same:
            different.append(one)
    return PicturesCheck(checked, tuple(different))


def check_same_pictures(one: EmbeddingTable, other: EmbeddingTable) -> None:
    """Refuse two tables whose ids agree and whose pictures don't.

    Raises:
        EmbeddingsError: with the number of samples that differ, and one of them.
    """
    ours, theirs = one.info.samples or {}, other.info.samples or {}
    common = [name for name in ours if name in theirs]
    different = [
        name for name in common
        if ours[name].bytes != theirs[name].bytes and ours[name].pixels != theirs[name].pixels
    ]  # fmt: skip
    if different:
        raise EmbeddingsError(
            f"{one.path} and {other.path} have the same sample ids for different pictures",
            expected="embeddings of the same data set",
            got=f"{len(different)} of {len(common)} pictures compared differ, such as {different[0]!r}",
            fix="embed the same data set with both priors",
        )


def _spread(ids: Sequence[str]) -> list[str]:
    return [ids[int(i)] for i in np.unique(np.linspace(0, len(ids) - 1, _SAMPLES).round())] if len(ids) else []


def _record(source: ImageSource, index: int) -> SampleRecord:
    return SampleRecord(
        pixels=pixel_digest(np.asarray(source.image(index))), bytes=digest_of(source, index).hex()
    )  # fmt: skip
