"""Published embeddings that fit the data at hand, found before any prior is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo.config import RelaConfig
from rela_zoo.errors import EmbeddingsError, HubError

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable, ImageSource
    from rela_zoo.hub import Artefact


@dataclass(frozen=True)
class Published:
    """Embeddings from the Hub, the transport that was published with them (or None), and where they came from."""

    table: EmbeddingTable
    transport: Path | None
    artefacts: tuple[Artefact, ...]


def find_published(config: RelaConfig, source: ImageSource, say: Callable[[str], None]) -> Published | None:
    """Pull embeddings of exactly these samples, if somebody published them for this prior.

    Index and ids are fetched first; rows only of a data set that has every sample of `source`. Without a network the
    cache is used; where that has nothing, this says so and finds none.

    Args:
        config: with a prior.
        source: the training data.
        say: takes a line for the user.

    Raises:
        RegistryError: no such prior.
    """
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import pull, pull_ids
    from rela_zoo.registry import prior_spec

    assert config.prior is not None
    spec = prior_spec(config.prior)
    for name, artefacts in sorted(spec.artefacts.items()):
        if artefacts.embeddings is None:
            continue
        try:
            ids = pull_ids(artefacts.embeddings)
            if ids is None or ids.info.preprocessing != config.preprocessing or len(ids) < len(source):
                continue
            try:
                ids.positions(source.ids)
            except EmbeddingsError:
                continue
            pulled = pull(spec, name)
        except HubError as error:
            say(f"rela_zoo: published embeddings of {name} by {spec.id} are not used: {error.what} ({error.got})")
            continue
        assert pulled.embeddings is not None
        say(f"rela_zoo: embeddings of {name} by {spec.id}, published in {artefacts.embeddings.repo}")
        return Published(open_embeddings(pulled.embeddings), pulled.transport, pulled.artefacts)
    return None
