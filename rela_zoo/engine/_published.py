"""Published embeddings that fit the data at hand, found before any prior is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo.engine.config import RelaConfig
from rela_zoo.errors import EmbeddingsError, HubError, RelaZooError

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.hub import Artefact
    from rela_zoo.registry import PriorSpec


@dataclass(frozen=True)
class Published:
    """Embeddings from the Hub and which these are; the file of the transport published with them and which it is."""

    table: EmbeddingTable
    rows: Artefact
    transport: tuple[Path, Artefact] | None


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
    from rela_zoo.hub import pull
    from rela_zoo.registry import prior_spec

    assert config.prior is not None
    spec = prior_spec(config.prior)
    name = _agreed(_choose(spec, config, source, say) if _rank() == 0 else None)
    if name is None:
        return None
    held = spec.artefacts[name].embeddings
    assert held is not None
    try:
        pulled = pull(spec, name)
    except HubError as error:
        if _together():
            raise  # the other ranks may have them: a job whose ranks use different rows is worse than none
        say(_unused(spec, name, error))
        return None
    assert pulled.embeddings is not None
    say(f"rela_zoo: embeddings of {name} by {spec.id}, published in {held.repo}")
    which = {one.kind: one for one in pulled.artefacts}
    transport = (pulled.transport, which["transport"]) if pulled.transport else None
    return Published(open_embeddings(pulled.embeddings), which["embeddings"], transport)


def _choose(spec: PriorSpec, config: RelaConfig, source: ImageSource, say: Callable[[str], None]) -> str | None:
    """The first data set whose rows are by this prior and hold every sample; only index and ids are fetched."""
    from rela_zoo.hub import pull_ids

    for name, artefacts in sorted(spec.artefacts.items()):
        if artefacts.embeddings is None:
            continue
        try:
            ids = pull_ids(artefacts.embeddings)
        # Out of reach, or in a format that this version does not know.
        except (HubError, EmbeddingsError) as error:
            say(_unused(spec, name, error))
            continue
        if ids.info.preprocessing != config.preprocessing or len(ids) < len(source):
            continue
        made_by = ids.info.prior
        weights = made_by.get("weights_sha256") or spec.sha256
        # A network of the publisher's own code is known by the digest of its state, not by that of a file.
        foreign = spec.family != "external" and spec.sha256 not in (None, weights)
        if made_by.get("id") != spec.id or foreign:
            say(f"rela_zoo: published embeddings of {name} by {spec.id} are not used: they are by {made_by.get('id')}")
            continue
        try:
            ids.positions(source.ids)
        except EmbeddingsError:
            continue
        return name
    return None


def _unused(spec: PriorSpec, name: str, error: RelaZooError) -> str:
    return f"rela_zoo: published embeddings of {name} by {spec.id} are not used: {error.what} ({error.got})"


def _together() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rank() -> int:
    import torch.distributed as dist

    return dist.get_rank() if _together() else 0


def _agreed(name: str | None) -> str | None:
    """What rank 0 has chosen, on every rank: each asking for itself, they could choose differently."""
    import torch.distributed as dist

    if not _together():
        return name
    box = [name]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def fetch_for_run(config: RelaConfig, data: str | None) -> list[str]:
    """Fetch what a run with this section needs, for a machine without a network.

    Args:
        config: the checked section.
        data: the training images, if they are in reach: then only published embeddings of exactly these are fetched.

    Returns:
        Lines for the user: what was fetched.

    Raises:
        RelaZooError: something is neither published nor in reach.
    """
    from rela_zoo.data import image_source
    from rela_zoo.hub import open_address, pull, pull_transport_address
    from rela_zoo.registry import prior_spec

    if config.prior is None:
        return ["this run has no prior: it needs nothing"]
    lines: list[str] = []
    spec = prior_spec(config.prior)
    fits = False
    if config.embeddings is not None:
        fits = True
        if config.embeddings.startswith("hf://"):
            table, _ = open_address(config.embeddings)
            lines.append(f"embeddings {table.path}")
    elif data is not None and Path(data).expanduser().exists():
        fits = find_published(config, image_source(data), lines.append) is not None
    else:
        for name in sorted(spec.artefacts):
            pulled = pull(spec, name)
            fits = True
            lines.append(f"embeddings and transport of {name}: {pulled.bytes / 1e6:,.1f} MB")
    if config.transport is not None and config.transport.startswith("hf://"):
        lines.append(f"transport {pull_transport_address(config.transport)[0]}")
    if not fits and spec.has_weights:
        pulled = pull(spec, what=("weights",))
        lines.append(f"weights {pulled.weights}: embeddings will be computed on the spot")
    return lines
