"""Transports between priors as heat maps: HTML tables, which are read aloud and copied as what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape

from rela_zoo._io.text import format_duration
from rela_zoo.registry import PairMeasures, ZooResults

# Name → how it is called, what it says, and whether it has a direction.
_MEASURES: dict[str, tuple[str, str]] = {
    "r2": ("R²", "share of the column’s variance that a linear map of the row explains, on held-out rows"),
    "retrieval_at_1": ("retrieval@1", "how often the mapped row’s nearest is the right one of the held-out rows"),
    "linear_cka": ("linear CKA", "how alike the two spaces are up to rotation and scale; the same both ways"),
}
_HIGH = 0.72  # from here on the ground is so dark, or so light, that the figures change their colour


def heat_maps(results: Sequence[ZooResults]) -> Iterable[str]:
    """A section a data set on which transports were measured."""
    shown = [found for found in results if found.pairs]
    if not shown:
        return
    yield "<h2>Transports between priors</h2>"
    yield (
        '<p class="dim">A linear map from the row’s embeddings to the column’s, fitted by ridge regression on the '
        "training images. Columns have the numbers of the rows. That two spaces are alike does not make either "
        "good.</p>"
    )
    for found in shown:
        yield from _section(found)


def _section(found: ZooResults) -> Iterable[str]:
    name = escape(found.data.name)
    yield f'<section aria-labelledby="transports-{name}"><h3 id="transports-{name}">{escape(found.data.title)}</h3>'
    choices = "".join(
        f'<label><input type="radio" name="measure-{name}" value="{key}"{_checked(number)}/> {escape(words)}</label>'
        for number, (key, (words, _)) in enumerate(_MEASURES.items())
    )
    yield f'<fieldset class="measures" hidden="hidden"><legend>show</legend>{choices}</fieldset>'
    for key, (words, meaning) in _MEASURES.items():
        yield f'<div data-measure="{key}"><p class="caption" id="{key}-{name}">{escape(f"{words}: {meaning}")}</p>'
        yield f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{key}-{name}">'
        yield f"{_table(found, key)}</div></div>"
    yield f"{_circumstances(found)}</section>"


def _checked(number: int) -> str:
    return ' checked="checked"' if number == 0 else ""


def _table(found: ZooResults, key: str) -> str:
    names = list(found.priors)
    heads = "".join(
        f'<th scope="col"><abbr title="{escape(name)}">{number}</abbr></th>' for number, name in enumerate(names, 1)
    )
    rows = []
    for number, source in enumerate(names, 1):
        cells = "".join(_cell(found.pair(source, target), key, source, target) for target in names)
        rows.append(f'<tr><th scope="row">{number}\u2002{escape(source)}</th>{cells}</tr>')
    return (
        f'<table class="heat" aria-describedby="{key}-{escape(found.data.name)}">'
        f'<thead><tr><td class="self"></td>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _cell(pair: PairMeasures | None, key: str, source: str, target: str) -> str:
    if pair is None:
        return '<td class="self">·</td>'
    value = float(getattr(pair, key))
    ground = min(max(value, 0.0), 1.0)
    high = ' class="high"' if ground >= _HIGH else ""
    hint = escape(f"{source} → {target}: {value:.3f}")
    return f'<td{high} style="--v:{ground:.3f}" title="{hint}">{value:.2f}</td>'


def _circumstances(found: ZooResults) -> str:
    made = [*(one.made for one in found.priors.values()), *(one.made for one in found.pairs)]
    dates = sorted({one.date for one in made})
    seconds = (
        sum(one.made.seconds for one in found.priors.values()) + sum(one.made.seconds for one in found.pairs) / 2
    )  # a pair is made both ways at once
    facts = {
        "data": found.data.model_dump(exclude_none=True),
        "settings": found.settings.model_dump(),
        "machines": [one.model_dump() for one in found.machines],
    }
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    note = f"<p>{escape(found.data.note)}</p>" if found.data.note else ""
    return (
        f'<div class="circumstances">{note}<details><summary>How it was measured: {escape(when)}, '
        f"{escape(format_duration(seconds))}</summary>"
        f"<pre>{escape(json.dumps(facts, indent=1, ensure_ascii=False))}</pre></details></div>"
    )
