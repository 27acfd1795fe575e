"""The folder of cards: one a prior, and the page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rela_zoo.errors import RegistryError
from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.hub.cards._model_card import model_card
from rela_zoo.hub.cards._zoo import zoo_page
from rela_zoo.registry import PriorSpec

NOTES, MEASURED, PAGE = "notes", "measured.yaml", "README.md"


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
