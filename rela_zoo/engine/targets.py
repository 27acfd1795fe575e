"""From a `rela` section and a data set to targets: find or make the embeddings, join them to samples, transport."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io import ranks
from rela_zoo._io.digest import file_sha256
from rela_zoo._io.log import logger
from rela_zoo._io.once import made_once
from rela_zoo._io.paths import artefact_cache
from rela_zoo.engine._plan import RelaPlan
from rela_zoo.engine._published import Published, find_published
from rela_zoo.errors import EmbeddingsError, RelaZooError, TransportError, WeightsError

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.hub import Artefact
    from rela_zoo.transport import TargetTransport

log = logger(__name__)

# Rows computed on another machine, in another batch size or rounded to float16 agree to about 1e-3 of a right angle;
# another image of the same class rarely comes above 0.95.
_SAME_IMAGE_COSINE = 0.99


@dataclass(frozen=True)
class Targets:
    """Targets for every sample of a data set, computed on the fly from raw rows.

    Attributes:
        table: the raw embeddings.
        transport: fitted on them.
        positions: (N,) int64, the row of `table` for each index of the data set.
        artefacts: which embeddings, transport and weights were used, for a lock file.
    """

    table: EmbeddingTable
    transport: TargetTransport
    positions: np.ndarray
    artefacts: tuple[Artefact, ...] = ()

    def to(self, device: torch.device) -> Targets:
        """The same, with the transport on a device; rows are read on the CPU."""
        return replace(self, transport=self.transport.to(device))

    def rows(self, indices: Tensor) -> Tensor:
        """Raw embeddings of the samples with these indices (B,) on the CPU: (B, D), on the CPU."""
        return self.table.rows(self.positions[indices.numpy()])


def resolve_targets(plan: RelaPlan, source: ImageSource, *, device: torch.device) -> Targets:
    """Find or make embeddings and transport for `source`, and join them to it by sample id.

    Missing artefacts are made by one process of each machine into the cache; other ranks and jobs wait for it. The
    prior's weights are needed only where rows are missing, or to check stored ones.

    Raises:
        EmbeddingsError: rows are missing for some samples, or belong to other images.
        WeightsError: embeddings must be computed and the prior's weights are out of reach.
        TransportError: the transport is not for these embeddings.
    """
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import Artefact, open_address

    config = plan.config
    fresh, published, used = False, None, []
    if config.embeddings is not None and config.embeddings.startswith("hf://"):
        table, rows = open_address(config.embeddings)
    elif config.embeddings is None and (published := find_published(plan, source)) is not None:
        table, rows = published.table, published.rows
    else:
        if config.embeddings is not None:
            table = open_embeddings(config.embeddings)
        else:
            table, weights, fresh = _cached_embeddings(plan, source, device)
            used += weights
        rows = Artefact("embeddings", None, None, None, "", table.digest)
    positions = _join(table, source, plan)

    def verify() -> None:
        if config.verify and not fresh:
            _spot_check(plan, table, positions, source, device, download=rows.repo is None)

    _by_the_first(verify)
    transport, moved = _transport(plan, table, published)
    return Targets(table, transport, positions, (rows, *moved, *used))


def _cached_embeddings(
    plan: RelaPlan, source: ImageSource, device: torch.device
) -> tuple[EmbeddingTable, list[Artefact], bool]:
    """Embeddings of `source` from the cache, made there when missing; by which weights; and whether just now."""
    from rela_zoo.embeddings import INDEX, cache_folder, embed, open_embeddings
    from rela_zoo.hub import weights_artefact
    from rela_zoo.prior import load_prior, prior_identity

    spec, preprocessing = plan.prior, plan.config.preprocessing
    identity, prior = prior_identity(spec, preprocessing), None
    if identity is None:
        prior = load_prior(spec, preprocessing=preprocessing)
        identity = prior.identity()
    folder = cache_folder(identity, source)

    def make() -> None:
        network = prior or load_prior(spec, preprocessing=preprocessing)
        log.info(f"rela_zoo: embedding {len(source)} images with {spec.id} → {folder}")
        embed(network, source, folder, device=str(device))

    lock = folder.with_name(f".{folder.name}.lock")
    fresh = made_once(folder / INDEX, make, what="embeddings", lock=lock)
    table = open_embeddings(folder)
    revision, digest = str(identity["revision"]) or None, str(identity["weights_sha256"])
    return table, [weights_artefact(spec, revision, digest)] if spec.has_weights else [], fresh


def _by_the_first(check: Callable[[], None]) -> None:
    """Let the first process check something for all: if it refuses, all of them end.

    Raises:
        RelaZooError: what the check raised; on the others, what it said.
    """
    mine: RelaZooError | None = None
    if ranks.is_first():
        try:
            check()
        except RelaZooError as error:
            mine = error
    said = ranks.broadcast(None if mine is None else mine.what)
    if mine is not None:
        raise mine
    if said is not None:
        raise RelaZooError("rank 0 has stopped, and so does this one", got=said, fix="see the error of rank 0")


def _join(table: EmbeddingTable, source: ImageSource, plan: RelaPlan) -> np.ndarray:
    try:
        return table.positions(source.ids)
    except EmbeddingsError as error:
        left_out = sorted({*source.ids} & {*table.info.skipped})
        if left_out:
            raise EmbeddingsError(
                f"{len(left_out)} images of this data set could not be decoded when {table.path} was made",
                expected="a row for each image",
                got=f"none for {', '.join(map(repr, left_out[:3]))}",
                fix="remove them from the data, or repair them and embed again",
            ) from error
        raise EmbeddingsError(
            f"rela.embeddings do not belong to this data set: {error.what}",
            expected=error.expected or f"a row for each of the {len(source)} samples of {source.describe()}",
            got=error.got,
            fix=f"run `rela-zoo embed {plan.config.prior} DATA --out DIR` on this data set, point rela.embeddings at "
            "the right artefact, or set rela.embeddings=null to compute them here",
        ) from error


def _spot_check(
    plan: RelaPlan,
    table: EmbeddingTable,
    positions: np.ndarray,
    source: ImageSource,
    device: torch.device,
    *,
    download: bool,
) -> None:
    """Embed a few samples again and compare with the stored rows.

    For embeddings that came from the Hub (hashes checked) weights are not downloaded just for this: `download=False`.
    """
    from rela_zoo.prior import find_weights, load_prior

    config, spec = plan.config, plan.prior
    try:
        if not download and spec.has_weights:
            find_weights(spec, download=False)
        prior = load_prior(spec, preprocessing=config.preprocessing).to(device)
    except WeightsError as error:
        if download:
            warnings.warn(f"rela.verify is skipped, for the prior can't be loaded: {error.what}", stacklevel=2)
        return
    picks = np.unique(np.linspace(0, len(source) - 1, config.verify).round().astype(np.int64))
    with torch.no_grad():
        again = prior(torch.stack([prior.transform(source.image(int(i))) for i in picks]).to(device)).float().cpu()
    stored = table.rows(positions[picks]).float()
    cosines = torch.nn.functional.cosine_similarity(again, stored, dim=1)
    if float(cosines.min()) < _SAME_IMAGE_COSINE:
        worst = int(cosines.argmin())
        raise EmbeddingsError(
            f"the stored embedding of {source.ids[int(picks[worst])]} is not what {config.prior} gives for this image",
            expected=f"a cosine of at least {_SAME_IMAGE_COSINE} for {len(picks)} samples embedded again",
            got=f"{float(cosines.min()):.4f} (mean {float(cosines.mean()):.4f})",
            fix="embed this data set anew, or set rela.verify=0 if you know why they differ",
        )


def _transport(
    plan: RelaPlan, table: EmbeddingTable, published: Published | None
) -> tuple[TargetTransport, list[Artefact]]:
    """The transport, and which it is; not where it is fitted here: then it follows from the rows."""
    from rela_zoo.hub import Artefact, pull_transport_address
    from rela_zoo.transport import TargetTransport, fit_transport

    given = plan.config.transport
    if given is not None:
        if given.startswith("hf://"):
            place, artefact = pull_transport_address(given)
        else:
            place = Path(given)
            artefact = Artefact("transport", None, None, None, "", file_sha256(place))
        transport = TargetTransport.load(place)
        if transport.dim != table.shape[1]:
            raise TransportError(
                f"rela.transport {given} is for other embeddings",
                expected=f"a transport of {table.shape[1]} dimensions",
                got=f"{transport.dim}",
                fix="set rela.transport=null to fit it on these embeddings",
            )
        return transport, [artefact]
    if published is not None and published.transport is not None:
        place, artefact = published.transport
        transport = TargetTransport.load(place)
        if transport.dim == table.shape[1] and transport.stats.source_digest == table.digest:
            return transport, [artefact]
        log.info("rela_zoo: the published transport was fitted on other rows; it is fitted anew")
    path = artefact_cache() / "transports" / f"{table.digest[:32]}.safetensors"
    made_once(path, lambda: fit_transport(table).save(path), what="a transport")
    return TargetTransport.load(path), []
