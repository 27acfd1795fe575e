"""What a card from before `facts_comment` says, read from its text: nothing of it is lost when it is written anew."""

from __future__ import annotations

import re
from typing import Any

from rela_zoo.hub.cards import Measurement, card_head
from rela_zoo.registry import PriorSpec

# A row of the table of measured numbers, as `model_card` writes it.
_ROW = re.compile(
    r"^\| (?P<measure>.+?) \| (?P<data>.+) \| (?P<value>[\d.]+) % \| `(?P<command>.*)`, `(?P<results>[^`]*)` \|$"
)
_FIGURE = "![Spectrum of the embeddings]"
_PINNED = "the Hub are always pinned."  # of any version
_SEALED = "<!-- written by rela-zoo"


def read_older_card(card: str, old: PriorSpec, rows_card: str | None) -> dict[str, Any] | None:
    """The facts that only the card has; None where it is not one that this package wrote.

    Args:
        card: of the model repository.
        old: the entry beside it.
        rows_card: of the data-set repository, if there is one.
    """
    head = card_head(card)
    notes = _notes(card, old)
    if head is None or notes is None:
        return None
    base = head.get("base_model")
    sources = (card_head(rows_card or "") or {}).get("source_datasets") or []
    return {
        "notes": notes,
        "measured": [one.model_dump(mode="json") for one in _measured(card, head, old.id)],
        "source_datasets": [one for one in sources if isinstance(one, str)],
        "base_model": base if isinstance(base, str) and base != old.repo else None,
    }


def _notes(card: str, old: PriorSpec) -> str | None:
    """The Markdown between the last thing that stands before notes, and what stands behind them."""
    start = -1
    for anchor in (_PINNED, _FIGURE, *(f"\n- {note}\n" for note in old.notes[-1:])):
        at = card.rfind(anchor)
        start = max(start, card.find("\n", at + max(len(anchor) - 1, 0)) if at >= 0 else -1)
    for row in re.finditer(r"^\|.*\|$", card, re.MULTILINE):
        if _ROW.match(row[0]):
            start = max(start, row.end())
    if start < 0:
        return None
    end = card.rfind("\n## Citation\n", start) if old.citation or old.arxiv else -1
    if end < 0:
        end = card.rfind(_SEALED, start)
    return card[start : end if end >= 0 else len(card)].strip()


def _measured(card: str, head: dict[str, Any], prior: str) -> list[Measurement]:
    """Rows of the table; the exact values and the Hub's data sets come from the head, where it has them."""
    exact = {}
    for index in head.get("model-index") or []:
        for one in index.get("results") or [] if isinstance(index, dict) else []:
            for metric in one.get("metrics") or []:
                key = str(metric.get("name")), str(one.get("dataset", {}).get("name"))
                exact[key] = metric.get("value"), one["dataset"].get("type"), metric.get("type")
    found = []
    for row in map(_ROW.match, card.splitlines()):
        if row is None:
            continue
        value, hub_dataset, metric = exact.get((row["measure"], row["data"]), (None, None, None))
        try:
            found.append(
                Measurement(
                    prior=prior,
                    measure=row["measure"],
                    data=row["data"],
                    command=row["command"],
                    value=float(row["value"]) / 100 if value is None else value,
                    hub_dataset=hub_dataset,
                    metric=metric or "accuracy",
                    results=row["results"],
                    key=(),
                )
            )
        except ValueError:
            continue  # no number of ours
    return found
