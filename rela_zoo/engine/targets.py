"""From a `rela` section and a data set to targets: find or make the embeddings, join them to samples, transport."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rela_zoo._io import ranks
from rela_zoo._io.digest import file_sha256
from rela_zoo._io.log import logger
from rela_zoo._io.once import made_once
from rela_zoo._io.paths import artefact_cache
from rela_zoo.engine._plan import PriorPlan, RelaPlan
from rela_zoo.engine._published import Published, find_published, load_fitted
from rela_zoo.engine._verify import verify_rows
from rela_zoo.engine.config import RelaConfig
from rela_zoo.errors import ConfigError, EmbeddingsError, Problem, RelaZooError

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.hub import Artefact
    from rela_zoo.prior import Prior
    from rela_zoo.transport import TargetTransport

log = logger(__name__)


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


@dataclass(frozen=True)
class Student:
    """The network to be trained, as it is initialised: the prior `self`.

    Attributes:
        network: images (B, 3, size, size) → features (B, m).
        size: side of its images, in pixels.
        mean, std: that its images are normalised by, three numbers each.
    """

    network: nn.Module
    size: int
    mean: Sequence[float]
    std: Sequence[float]


def resolve_all(
    plan: RelaPlan,
    source: ImageSource,
    *,
    student: Student | None,
    device: torch.device,
    num_workers: int | None = None,
) -> tuple[Targets, ...]:
    """Targets of each prior of a run; arguments as for `resolve_targets`, and the student, for `rela.prior=self`.

    Raises:
        ConfigError: `self`, of a student that nobody gave, or that was initialised otherwise on another rank.
    """
    found = []
    for prior in plan.priors:
        if prior is not None:
            found.append(resolve_targets(prior, source, device=device, num_workers=num_workers))
        elif student is not None:
            found.append(_student_targets(student, source, device, num_workers))
        else:
            fix = "give `student`, or name a prior, such as `random`"
            raise ConfigError([Problem("rela.prior", "a host that knows its student, for self", "none", fix)])
    return tuple(found)


def _student_targets(student: Student, source: ImageSource, device: torch.device, num_workers: int | None) -> Targets:
    """Targets by the student itself before it is trained; embeddings and transport lie in the cache."""
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import Artefact
    from rela_zoo.prior import untrained_prior

    prior = untrained_prior(student.network, student.size, student.mean, student.std)
    others = len(set(ranks.gather(prior.identity()["weights_sha256"])))
    if others > 1:  # seen by all of them, so that all of them end
        fix = "seed every rank alike before the module is made (lightning.seed_everything)"
        expected = "with self, a student with the same weights on every rank"
        raise ConfigError([Problem("rela.prior", expected, f"{others} different ones", fix)])
    folder, _ = _embedded(prior.identity(), lambda: prior, source, device, num_workers)
    table = open_embeddings(folder)
    rows = Artefact("embeddings", None, None, None, "", table.digest)
    return Targets(table, _fitted(table), table.positions(source.ids), (rows,))


def resolve_targets(
    plan: PriorPlan, source: ImageSource, *, device: torch.device, num_workers: int | None = None
) -> Targets:
    """Find or make embeddings and transport for `source`, and join them to it by sample id.

    Missing artefacts are made by one process of each machine into the cache; other ranks and jobs wait for it. The
    prior's weights are needed only where rows are missing, or to check stored ones.

    Args:
        plan: of the run.
        source: the images in the order of their indices.
        device: where the prior runs, should it have to.
        num_workers: processes that decode images, should rows have to be made; None chooses, as for `embed`.

    Raises:
        EmbeddingsError: rows are missing for some samples, or belong to other images.
        WeightsError: embeddings must be computed and the prior's weights are out of reach.
        TransportError: the transport is not for these embeddings.
    """
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import Artefact, open_address

    fresh, published, used = False, None, []
    if plan.embeddings is not None and plan.embeddings.startswith("hf://"):
        # A transport that has to be fitted takes all rows; else those of the samples do.
        table, rows = open_address(plan.embeddings, ids=source.ids if plan.transport is not None else None)
    elif plan.embeddings is None and (published := find_published(plan, source)) is not None:
        table, rows = published.table, published.rows
    else:
        if plan.embeddings is not None:
            table = open_embeddings(plan.embeddings)
        else:
            table, weights, fresh = _cached_embeddings(plan, source, device, num_workers)
            used += weights
        rows = Artefact("embeddings", None, None, None, "", table.digest)
    _check_prior(plan, table)
    positions = _join(table, source, plan)

    def verify() -> None:
        if not fresh:
            verify_rows(plan, table, positions, source, device, local=rows.repo is None)

    _by_the_first(verify)
    transport, moved = _transport(plan, table, published)
    return Targets(table, transport, positions, (rows, *moved, *used))


def left_out_of(config: RelaConfig) -> tuple[str, ...]:
    """Ids of images that could not be decoded when `rela.embeddings` were made: a run leaves them out, too.

    Of embeddings on the Hub their index is fetched. Empty where the embeddings are not named.

    Raises:
        EmbeddingsError, HubError: they are damaged, or out of reach.
    """
    from rela_zoo.embeddings import read_index
    from rela_zoo.hub import pull_index

    given = [rows for _, rows, _ in config.by_prior if rows is not None]
    folders = [pull_index(rows) if rows.startswith("hf:") else Path(rows).expanduser() for rows in given]
    return tuple(dict.fromkeys(one for folder in folders for one in read_index(folder).skipped))


def _cached_embeddings(
    plan: PriorPlan, source: ImageSource, device: torch.device, num_workers: int | None
) -> tuple[EmbeddingTable, list[Artefact], bool]:
    """Embeddings of `source` from the cache, made there when missing; by which weights; and whether just now."""
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.hub import weights_artefact
    from rela_zoo.prior import load_prior, prior_identity

    spec, preprocessing = plan.spec, plan.config.preprocessing
    identity, prior = prior_identity(spec, preprocessing), None
    if identity is None:
        prior = load_prior(spec, preprocessing=preprocessing)
        identity = prior.identity()
    loaded = prior
    folder, fresh = _embedded(
        identity, lambda: loaded or load_prior(spec, preprocessing=preprocessing), source, device, num_workers
    )
    table = open_embeddings(folder)
    revision, digest = str(identity["revision"]) or None, str(identity["weights_sha256"])
    return table, [weights_artefact(spec, revision, digest)] if spec.has_weights else [], fresh


def _embedded(
    identity: Mapping[str, str | int],
    load: Callable[[], Prior],
    source: ImageSource,
    device: torch.device,
    num_workers: int | None,
) -> tuple[Path, bool]:
    """The folder of the cache with a prior's embeddings of `source`, made there when missing; and whether just now."""
    from rela_zoo.embeddings import INDEX, cache_folder, embed

    folder = cache_folder(identity, source)

    def make() -> None:
        log.info(f"rela_zoo: embedding {len(source)} images with {identity['id']} → {folder}")
        # On stderr, and only where such messages are wanted: a million images take their time.
        progress: Literal["always", False] = "always" if log.isEnabledFor(logging.INFO) else False
        embed(load(), source, folder, device=device, num_workers=num_workers, progress=progress)

    lock = folder.with_name(f".{folder.name}.lock")
    return folder, made_once(folder / INDEX, make, what="embeddings", lock=lock)


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


def _check_prior(plan: PriorPlan, table: EmbeddingTable) -> None:
    from rela_zoo.prior import check_same_prior, entry_identity

    check_same_prior(
        entry_identity(plan.spec, plan.config.preprocessing),
        table.info.identity,
        f"the embeddings in {table.path} are not by the prior of this run",
        error=EmbeddingsError,
        fix=f"run `rela-zoo embed {plan.name} DATA --out DIR`, or set rela.embeddings=null",
    )


def _join(table: EmbeddingTable, source: ImageSource, plan: PriorPlan) -> np.ndarray:
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
            fix=f"run `rela-zoo embed {plan.name} DATA --out DIR` on this data set, point rela.embeddings at "
            "the right artefact, or set rela.embeddings=null to compute them here",
        ) from error


def _transport(
    plan: PriorPlan, table: EmbeddingTable, published: Published | None
) -> tuple[TargetTransport, list[Artefact]]:
    """The transport, and which it is; not where it is fitted here: then it follows from the rows."""
    from rela_zoo.hub import Artefact, pull_transport_address
    from rela_zoo.transport import TargetTransport, check_target_fits

    given = plan.transport
    if given is not None:
        if given.startswith("hf://"):
            place, artefact = pull_transport_address(given)
        else:
            place = Path(given)
            artefact = Artefact("transport", None, None, None, "", file_sha256(place))
        transport = TargetTransport.load(place)
        check_target_fits(
            transport, table, f"rela.transport {given}", "set rela.transport=null to fit it on these rows"
        )
        return transport, [artefact]
    if published is not None and published.transport is not None:
        place, artefact = published.transport
        fitted = load_fitted(place, table)
        if fitted is not None:
            return fitted, [artefact]
        log.info("rela_zoo: the published transport was fitted on other rows; it is fitted anew")
    return _fitted(table), []


def _fitted(table: EmbeddingTable) -> TargetTransport:
    """The transport fitted on these rows, from the cache, or made there."""
    from rela_zoo.transport import TargetTransport, fit_transport

    path = artefact_cache() / "transports" / f"{table.digest[:32]}.safetensors"
    made_once(path, lambda: fit_transport(table).save(path), what="a transport")
    return TargetTransport.load(path)
