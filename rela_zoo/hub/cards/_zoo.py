"""The page that lists the zoo."""

from __future__ import annotations

from collections.abc import Sequence

from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.registry import PriorSpec

_HEAD = """# The zoo

Every prior of the registry, made from its entry by `scripts/make_cards.py`; hand-written text goes into
`notes/<id>.md`, numbers come from the files named in `measured.yaml`. `rela-zoo list` shows the same on the command
line.

*Pin* says who vouches for the hash of the weights: `confirmed` (seen at the source), `third-party` (somebody's record),
`none` (unknown), `-` (no weights).
"""


def zoo_page(specs: Sequence[PriorSpec], measured: Sequence[Measurement] = ()) -> str:
    """The zoo as Markdown: one row a prior, then what was measured of transferability."""
    lines = [_HEAD, "| prior | dim | input | licence | pin | trained on |", "|---|---|---|---|---|---|"]
    for spec in sorted(specs, key=lambda one: one.id):
        size = spec.preprocessing.input_size if spec.preprocessing else "?"
        licence = f"[{spec.licence}]({spec.licence_link})" if spec.licence_link else spec.licence
        pin = spec.pin if spec.has_weights else "-"
        lines.append(
            f"| [{spec.id}]({spec.id}.md) | {spec.dim or '?'} | {size} | {licence} | {pin} | {spec.training_data} |"
        )
    lines += ["", "## Measured transferability", ""]
    known = [one for one in measured if one.value is not None]
    if known:
        lines += ["| prior | what | on | value | made by |", "|---|---|---|---|---|"]
        lines += [
            f"| [{one.prior}]({one.prior}.md) | {one.measure} | {one.data} | {one.percent} | `{one.command}` |"
            for one in known
        ]
        lines += ["", f"{len({one.prior for one in known})} of {len(specs)} priors; the others were not measured here."]
    else:
        lines += ["None yet."]
    return "\n".join([*lines, ""])
