"""The zoo's own cards: one a prior, and the page that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rela_zoo.errors import RegistryError
from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.hub.cards._model_card import model_card
from rela_zoo.registry import PriorSpec

NOTES, MEASURED, PAGE = "notes", "measured.yaml", "README.md"
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


def make_cards(specs: Iterable[PriorSpec], folder: Path, measured: Iterable[Measurement]) -> dict[str, str]:
    """The text of every generated file of the folder, by name. Writes nothing.

    Args:
        specs: the registry.
        folder: of the cards; `notes/<id>.md` in it is hand-written and only read.
        measured: measured numbers.

    Raises:
        RegistryError: notes or numbers about a prior that is not in the registry.
    """
    listed, numbers = sorted(specs, key=lambda spec: spec.id), list(measured)
    known = {spec.id for spec in listed}
    notes = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / NOTES).glob("*.md"))}
    strangers = sorted((notes.keys() | {one.prior for one in numbers}) - known)
    if strangers:
        raise RegistryError(
            "notes or numbers belong to no prior of the registry", expected="the id of an entry",
            got=", ".join(strangers), fix=f"rename them in {folder / NOTES} or {folder / MEASURED}",
        )  # fmt: skip
    cards = {f"{spec.id}.md": model_card(spec, notes=notes.get(spec.id, ""), measured=numbers) for spec in listed}
    return {PAGE: zoo_page(listed, numbers), **cards}
