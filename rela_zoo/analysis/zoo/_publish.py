"""Publish what a zoo has made, prior by prior, with an index of it: on the Hub, or in the same layout in a folder."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rela_zoo._io.files import atomic_write
from rela_zoo._io.log import logger
from rela_zoo.analysis.zoo._build import Zoo
from rela_zoo.analysis.zoo._cells import Cell, ZooPrior, read_record
from rela_zoo.errors import RegistryError, SignatureError, WeightsError
from rela_zoo.hub import index_file
from rela_zoo.hub.cards import Measurement, make_cards, measurements
from rela_zoo.hub.publish import Plan, Publication, check_signers, publish, send_index
from rela_zoo.registry import INDEX_FILE, ZooResults, packaged_priors
from rela_zoo.remote import mirrored_path

log = logger(__name__)


@dataclass
class Published:
    """What was published.

    Attributes:
        done: of every prior, by its id.
        left_out: id → why a prior can't be published.
        index: repository and commit of the index.
    """

    done: dict[str, Publication] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    index: tuple[str, str] | None = None


def write_cards(zoo: Zoo, results: Sequence[ZooResults]) -> Path:
    """Write a card for every prior of the zoo, with what was measured of it, and a page that lists them."""
    folder = zoo.places.out / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [one for found in results for one in measurements(found, f"results/{found.data.name}.json")]
    for name, text in make_cards([prior.spec for prior in zoo.priors], folder, numbers).items():
        atomic_write(folder / name, text.encode())
    return folder


def publish_zoo(
    zoo: Zoo,
    results: Sequence[ZooResults],
    *,
    org: str,
    to: Path | None = None,
    sign: Sequence[Path] = (),
    confirm: Callable[[Plan], bool] | None = None,
) -> Published:
    """Publish embeddings, target transports and transports to other priors of every finished cell, and the index.

    It sends nothing that is there already.

    Args:
        zoo: that was built.
        results: of it.
        org: whose repositories: `org/<prior>`, and `org/registry` for the index.
        to: a folder, instead of the Hub.
        sign: files with private keys, as for `publish`; the index only leads to what is signed, and is not.
        confirm: sees the plan of each prior; False stops.

    Raises:
        HubError: the Hub refuses or is out of reach.
        SignatureError: a key can't be read, or what would be kept was not signed by it.
        EmbeddingsError, TransportError: something made is damaged.
    """
    found = Published()
    for prior in zoo.priors:
        cells = [cell for cell in zoo.cells if prior in cell.priors and read_record(zoo.places, cell) is not None]
        own = [cell for cell in cells if len(cell.priors) == 1]
        if not own:
            continue
        try:
            with _without_replace():
                found.done[prior.id] = publish(
                    _repository(org, prior),
                    entry=prior.name,
                    embeddings=_embeddings(zoo, own),
                    transports=_transports(zoo, prior, cells),
                    measured=[] if _is_packaged(prior) else _measured(prior, results),
                    to=to,
                    sign=sign,
                    confirm=confirm,
                )
        except (RegistryError, WeightsError) as error:
            found.left_out[prior.id] = f"{error.what}" + (f" ({error.fix})" if error.fix else "")
    found.index = _index(org, found.done, to)
    return found


def check_zoo_signers(zoo: Zoo, *, org: str, to: Path | None = None, sign: Sequence[Path] = ()) -> None:
    """Refuse keys by which `publish_zoo` would not sign over what is there; for before the zoo is built.

    Args:
        zoo: that is to be built.
        org, to, sign: as for `publish_zoo`.

    Raises:
        SignatureError: a key can't be read, or what would be kept was not signed by it.
        HubError: the Hub is out of reach.
    """
    for prior in zoo.priors:
        with _without_replace():
            check_signers(_repository(org, prior), sign, rows_only=_is_packaged(prior), to=to)


@contextmanager
def _without_replace() -> Iterator[None]:
    """A zoo keeps what was published before: what to do about other keys is another thing than for `publish`."""
    try:
        yield
    except SignatureError as error:
        if "--replace" not in (error.fix or ""):  # a key that can't be read
            raise
        raise SignatureError(
            error.what, expected=error.expected, got=error.got,
            fix="sign by that key (--sign), trust its identity (RELA_ZOO_TRUSTED), or build into another place (--out)",
        ) from error  # fmt: skip


def _repository(org: str, prior: ZooPrior) -> str:
    return f"{org}/{prior.id.replace('@', '-')}"


def _is_packaged(prior: ZooPrior) -> bool:
    return any(one == prior.spec for one in packaged_priors())


def _embeddings(zoo: Zoo, cells: list[Cell]) -> dict[str, Path]:
    """Data set → rows of its training images; `<data set>-test` → those to judge by."""
    return {
        cell.data.about.name + ("" if part == "train" else f"-{part}"): zoo.places.rows(cell.data, cell.priors[0], part)
        for cell in cells
        for part in cell.data.parts
    }


def _transports(zoo: Zoo, prior: ZooPrior, cells: list[Cell]) -> list[str]:
    """`NAME=FILE`: the target transports of a prior, and those that begin at it."""
    found = []
    for cell in cells:
        others = [one for one in cell.priors if one != prior]
        found.append(f"{cell.data.about.name}={zoo.places.transport(cell.data, prior, *others)}")
    return found


def _measured(prior: ZooPrior, results: Sequence[ZooResults]) -> list[Measurement]:
    every = [one for found in results for one in measurements(found, f"results/{found.data.name}.json")]
    return [one for one in every if one.prior == prior.id]


def _index(org: str, done: dict[str, Publication], to: Path | None) -> tuple[str, str] | None:
    """The index with what was published now, beside what it had."""
    if not done:
        return None

    def change(document: index_file.Document) -> index_file.Document:
        return _listed(document, done)

    repo = f"{org}/registry"
    if to is None:
        sent = send_index(repo, change, f"Index of {len(done)} priors of a zoo")
        return (repo, sent.commit) if sent.commit else None
    path = to / INDEX_FILE
    document = change(index_file.read(path) if path.is_file() else index_file.empty())
    content = index_file.to_bytes(document)
    index_file.write(path, document)
    # Where RELA_ZOO_MIRROR and RELA_ZOO_INDEX find it: at a commit, which is named by the content.
    commit = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    place = to / mirrored_path(repo, INDEX_FILE, commit, "dataset")
    place.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(place, content)
    return repo, commit


def _listed(document: index_file.Document, done: dict[str, Publication]) -> index_file.Document:
    changed: dict[str, Any] = copy.deepcopy(document)
    for name, one in done.items():
        if one.listing is None:
            changed.setdefault("priors", {})[name] = {"repo": one.repo, "revision": one.commit}
            continue
        for identity, sets in one.listing.items():
            changed.setdefault("embeddings", {}).setdefault(identity, {}).update(sets)
    return changed
