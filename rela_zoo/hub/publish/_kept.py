"""What was said when a prior was published before, and is not said again now: it stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rela_zoo._io.log import logger
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish._details import make_spec
from rela_zoo.hub.publish._older_card import read_older_card
from rela_zoo.registry import PriorSpec

if TYPE_CHECKING:
    from rela_zoo.hub.publish._repositories import Contribution

log = logger(__name__)

# What only the card has: kept in it, out of a reader's sight.
_MARK, _END = "<!-- rela-zoo publication ", " -->"
_WORDS = ("title", "training_data", "citation", "arxiv")
_LICENCE = ("licence", "licence_link")


def facts_comment(
    notes: str, measured: Sequence[Measurement], source_datasets: Sequence[str], base_model: str | None
) -> str:
    """One line of a card that holds what a later publication needs to write it again."""
    facts = {
        "notes": notes,
        "measured": [one.model_dump(mode="json") for one in measured],
        "source_datasets": list(source_datasets),
        "base_model": base_model,
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return _MARK + text.replace("<", "\\u003c").replace(">", "\\u003e") + _END  # nothing in it ends the comment


def keep_published(
    given: Contribution, old: PriorSpec | None, card: str | None, rows_card: Callable[[], str | None]
) -> Contribution:
    """A contribution with all that was published of the same prior before and is not given now.

    Args:
        given: by this call.
        old: the entry in force; None where there is none.
        card: the model card in force.
        rows_card: reads the card of the embeddings in force; asked where the model card is an older one.
    """
    source = given.source
    if given.replace or old is None or old.id != source.spec.id:
        return given
    names = [name for name in _WORDS if name not in source.said]
    if not source.said.intersection(_LICENCE):
        names += _LICENCE
    kept = {name: value for name in names if (value := getattr(old, name)) and value != getattr(source.spec, name)}
    if kept:
        log.info("kept from before: %s", ", ".join(sorted(kept)))
        spec = make_spec({**source.spec.model_dump(), **kept})
        source = replace(source, spec=spec)
    facts = _read_facts(card) or (read_older_card(card, old, rows_card()) if card is not None else None)
    if facts is None:
        log.warning(
            "the card of %s does not say what it was made of: --notes, --results, --base-model and --source-dataset "
            "that were given before are lost if they are not given again", given.repo,
        )  # fmt: skip
        return replace(given, source=source)
    return replace(
        given,
        source=replace(source, base_model=source.base_model or facts["base_model"]),
        notes=given.notes or facts["notes"],
        measured=given.measured or tuple(Measurement.model_validate(one) for one in facts["measured"]),
        source_datasets=given.source_datasets or tuple(facts["source_datasets"]),
    )


def _read_facts(card: str | None) -> dict[str, Any] | None:
    """What `facts_comment` wrote; None for a card without it."""
    start = (card or "").rfind(_MARK)
    if card is None or start < 0:
        return None
    text, end, _ = card[start + len(_MARK) :].partition(_END)
    try:
        facts = json.loads(text)
        [Measurement.model_validate(one) for one in facts["measured"]]
        good = isinstance(facts["notes"], str) and all(isinstance(one, str) for one in facts["source_datasets"])
        return facts if end and good and isinstance(facts["base_model"], str | None) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
