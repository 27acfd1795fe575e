"""What a search shows of a published prior, kept in the head of its card: one request lists it for all priors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rela_zoo.registry import PriorSpec

KEY = "rela_zoo"


@dataclass(frozen=True)
class PublishedRows:
    """Size of the published embeddings of one data set: rows, and bytes that a pull fetches."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class SearchFacts:
    """A published prior in short.

    Attributes:
        title: one line.
        dim: features an image.
        datasets: embedded data sets, by name.
    """

    title: str = ""
    dim: int | None = None
    datasets: Mapping[str, PublishedRows] = field(default_factory=dict)


def facts_head(spec: PriorSpec, datasets: Mapping[str, PublishedRows]) -> dict[str, Any]:
    """The key for the head of a card."""
    listed = {name: {"rows": one.rows, "bytes": one.bytes} for name, one in sorted(datasets.items())}
    return {KEY: {"title": spec.title, "dim": spec.dim, "datasets": listed}}


def read_facts(head: Any) -> SearchFacts:
    """Read it from the head of anybody's card; whatever is not as it should be is left out."""
    raw = head.get(KEY) if isinstance(head, Mapping) else None
    if not isinstance(raw, Mapping):
        return SearchFacts()
    title, dim, listed = raw.get("title"), raw.get("dim"), raw.get("datasets")
    datasets = {}
    for name, one in listed.items() if isinstance(listed, Mapping) else ():
        rows, size = (one.get("rows"), one.get("bytes")) if isinstance(one, Mapping) else (None, None)
        if isinstance(name, str) and name.isprintable() and isinstance(rows, int) and isinstance(size, int):
            datasets[name[:96]] = PublishedRows(rows, size)
    said = title[:120] if isinstance(title, str) and title.isprintable() else ""
    return SearchFacts(said, dim if isinstance(dim, int) else None, datasets)
