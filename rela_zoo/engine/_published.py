"""Published embeddings that fit the data at hand, found before any prior is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rela_zoo._io import ranks
from rela_zoo._io.log import logger
from rela_zoo.engine._plan import PriorPlan, RelaPlan
from rela_zoo.errors import EmbeddingsError, HubError, RelaZooError

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.hub import Artefact
    from rela_zoo.registry import PriorSpec
    from rela_zoo.transport import TargetTransport

log = logger(__name__)


@dataclass(frozen=True)
class Published:
    """Embeddings from the Hub and which these are; the file of the transport published with them and which it is."""

    table: EmbeddingTable
    rows: Artefact
    transport: tuple[Path, Artefact] | None


def find_published(plan: PriorPlan, source: ImageSource) -> Published | None:
    """Pull embeddings of exactly these samples, if somebody published them for this prior.

    Index and ids are fetched first; rows only of a data set that has every sample of `source`, and of these only the
    shards that hold the samples, unless a transport has to be fitted, which takes all rows. Without a network the cache
    is used; where that has nothing, this says so and finds none.

    Args:
        plan: of the prior.
        source: the training data.
    """
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import published_artefacts, pull, pull_ids

    spec = plan.spec
    # What the first process chooses is used by all: each asking for itself, they could choose differently.
    name = ranks.broadcast(_choose(plan, source) if ranks.is_first() else None)
    if name is None:
        return None
    published = spec.artefacts.get(name) or published_artefacts(spec, plan.config.preprocessing)[name]
    held = published.embeddings
    assert held is not None
    entry = spec.model_copy(update={"artefacts": {name: published}})
    try:
        moved = pull(entry, name, what=("transport",))
        fitted = plan.transport is not None or load_fitted(moved.transport, pull_ids(held)) is not None
        pulled = pull(entry, name, what=("embeddings",), ids=source.ids if fitted else None)
    except HubError as error:
        if ranks.world_size() > 1:
            raise  # the other ranks may have them: a job whose ranks use different rows is worse than none
        log.info(_unused(spec, name, error))
        return None
    assert pulled.embeddings is not None
    table = open_embeddings(pulled.embeddings, partial=pulled.shards is not None)
    some = "" if pulled.shards is None else f" ({len(pulled.shards)} of {len(table.info.shards)} shards)"
    log.info(f"rela_zoo: embeddings of {name} by {spec.id}, published in {held.repo}{some}")
    transport = (moved.transport, moved.artefacts[0]) if moved.transport else None
    return Published(table, pulled.artefacts[0], transport)


def load_fitted(path: Path | None, table: EmbeddingTable) -> TargetTransport | None:
    """A published transport, if it was fitted on these rows; none of which is read."""
    from rela_zoo.transport import TargetTransport

    if path is None:
        return None
    transport = TargetTransport.load(path)
    same = transport.dim == table.shape[1] and transport.stats.source_digest == table.digest
    return transport if same else None


def _choose(plan: PriorPlan, source: ImageSource) -> str | None:
    """The data set whose rows are by this prior, hold every sample, and, as far as can be told, are of these pictures.

    One with exactly these samples comes before a larger one, and one whose pictures could be compared before one whose
    could not. Only indices and ids are fetched.
    """
    from rela_zoo.embeddings import check_pictures
    from rela_zoo.hub import published_artefacts, pull_ids
    from rela_zoo.prior import entry_identity, identity_differences

    spec, config = plan.spec, plan.config
    fits: list[tuple[bool, int, str]] = []
    for name, artefacts in sorted(published_artefacts(spec, config.preprocessing).items()):
        if artefacts.embeddings is None:
            continue
        try:
            ids = pull_ids(artefacts.embeddings)
        # Out of reach, or in a format that this version does not know.
        except (HubError, EmbeddingsError) as error:
            log.info(_unused(spec, name, error))
            continue
        if ids.info.preprocessing != config.preprocessing or len(ids) < len(source):
            continue
        differ = identity_differences(entry_identity(spec, config.preprocessing), ids.info.identity)
        if differ:
            log.info(
                f"rela_zoo: published embeddings of {name} by {spec.id} are not used: they are by "
                f"{ids.info.prior.get('id')} ({', '.join(differ)} differ{'s' * (len(differ) == 1)})"
            )
            continue
        try:
            ids.positions(source.ids)
        except EmbeddingsError:
            continue
        found = check_pictures(ids, source)
        if found.different and config.verify != 0:
            log.warning(
                f"rela_zoo: published embeddings of {name} by {spec.id} are not used: they are of other pictures with "
                f"the same names ({len(found.different)} of {found.checked} compared differ, such as "
                f"{found.different[0]!r})"
            )
            continue
        fits.append((found.checked == 0, len(ids) - len(source), name))
    return min(fits)[2] if fits else None


def _unused(spec: PriorSpec, name: str, error: RelaZooError) -> str:
    return f"rela_zoo: published embeddings of {name} by {spec.id} are not used: {error.what} ({error.got})"


def fetch_for_run(plan: RelaPlan, data: str | None, on_error: Literal["raise", "skip"] = "raise") -> list[str]:
    """Fetch what a run with this section needs, for a machine without a network.

    Args:
        plan: of the run.
        data: the training images, if they are in reach: then only published embeddings of exactly these are fetched.
        on_error: `skip` if the run leaves out images that can't be decoded.

    Returns:
        Lines for the user: what was fetched.

    Raises:
        RelaZooError: something is neither published nor in reach.
    """
    if not plan.priors:
        return ["this run has no prior: it needs nothing"]
    return [line for prior in plan.priors if prior is not None for line in _fetch_for_prior(prior, data, on_error)]


def _fetch_for_prior(plan: PriorPlan, data: str | None, on_error: Literal["raise", "skip"]) -> list[str]:
    from rela_zoo.data import image_source, is_there, readable
    from rela_zoo.hub import open_address, published_artefacts, pull, pull_transport_address

    config, spec = plan.config, plan.spec
    lines: list[str] = []
    fits = False
    here = data if data is not None and is_there(data) else None
    if plan.embeddings is not None:
        fits = True
        if plan.embeddings.startswith("hf://"):
            some = here is not None and plan.transport is not None
            ids = readable(image_source(here), on_error).ids if some else None
            table, _ = open_address(plan.embeddings, ids=ids)
            lines.append(f"embeddings {table.path}")
    elif here is not None:
        fits = find_published(plan, readable(image_source(here), on_error)) is not None
    else:
        for name in sorted(published_artefacts(spec, config.preprocessing)):
            pulled = pull(spec, name)
            fits = True
            lines.append(f"embeddings and transport of {name}: {pulled.bytes / 1e6:,.1f} MB")
    if plan.transport is not None and plan.transport.startswith("hf://"):
        lines.append(f"transport {pull_transport_address(plan.transport)[0]}")
    if not fits and spec.has_weights:
        pulled = pull(spec, what=("weights",))
        lines.append(f"weights {pulled.weights}: embeddings will be computed on the spot")
    return lines
