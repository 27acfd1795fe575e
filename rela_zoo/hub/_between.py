"""Published transports from one prior to another: found by both priors, fetched, and checked against both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo._io.log import logger
from rela_zoo.errors import HubError, RelaZooError, TransportError
from rela_zoo.hub._pull import Artefact, pull_placed
from rela_zoo.registry import Artefacts, Between, PriorSpec, index_embeddings, prior_spec

if TYPE_CHECKING:
    from rela_zoo.transport import PriorTransport

log = logger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PulledBetween:
    """What `pull_between` fetched.

    Attributes:
        path: the file, for `PriorTransport.load`.
        transport: the same, read.
        dataset: what it was fitted on.
        artefact: which it is, for a lock file.
    """

    path: Path
    transport: PriorTransport
    dataset: str
    artefact: Artefact


@dataclass(frozen=True)
class _End:
    """One of the two priors that were asked for: an entry, or nothing but the digest of its identity."""

    name: str
    spec: PriorSpec | None
    digest: str | None

    @property
    def known(self) -> Mapping[str, str | int]:
        from rela_zoo.prior import entry_identity

        return entry_identity(self.spec) if self.spec is not None else {}


def pull_between(
    source: str | os.PathLike[str] | PriorSpec,
    target: str | os.PathLike[str] | PriorSpec,
    dataset: str | None = None,
) -> PulledBetween:
    """Fetch the published transport from one prior to another, at its commit, checked by sha256 and by both identities.

    Args:
        source, target: priors: names, addresses, entries, or the digest of an identity (64 hexadecimal digits).
        dataset: what it was fitted on; may be left out where there is one only.

    Raises:
        HubError: none was published, or it is out of reach, refused, or damaged.
        TransportError: what was published does not lead from this prior to that one.
        RegistryError: no such prior.
    """
    begins, ends = _end(source), _end(target)
    found = dict(_published(begins, ends))
    if dataset is None and len(found) == 1:
        dataset = next(iter(found))
    if dataset is None or dataset not in found:
        names = ", ".join(sorted(found))
        fit = "fit it: `rela-zoo transport fit SOURCE TARGET --out FILE`; `rela-zoo publish --transport` shares it"
        raise HubError(
            f"no transport from {begins.name} to {ends.name} is published" + (f" for {dataset!r}" if dataset else ""),
            expected=f"one of: {names}" if names else "an entry, or the index, that names one",
            got=dataset or ("no --dataset" if names else "none"),
            fix="name one of them with --dataset" if names else fit,
        )  # fmt: skip
    place = found[dataset]
    path, artefact = pull_placed(place, "between")
    return PulledBetween(path, _read(path, place, begins, ends), dataset, artefact)


def _end(prior: str | os.PathLike[str] | PriorSpec) -> _End:
    from rela_zoo.prior import identity_digest, prior_identity

    if isinstance(prior, str) and _DIGEST.fullmatch(prior):
        return _End(f"{prior[:12]}…", None, prior)
    spec = prior if isinstance(prior, PriorSpec) else prior_spec(prior)
    identity = prior_identity(spec)
    return _End(spec.id, spec, identity_digest(identity) if identity is not None else None)


def _published(begins: _End, ends: _End) -> Iterator[tuple[str, Between]]:
    """By data set: those that lead to exactly the other prior, else those that lead to one of its name."""
    listed = _listed(begins)
    exact = [(name, at) for name, held in listed for at in held.to.values() if at.identity == ends.digest]
    if exact or ends.spec is None:
        return iter(exact)
    names = (ends.spec.id, *ends.spec.aliases)
    return ((name, held.to[target]) for name, held in listed for target in names if target in held.to)


def _listed(begins: _End) -> list[tuple[str, Artefacts]]:
    """What the entry names, after what the index has, so that the entry's own wins where both name one data set."""
    found: list[tuple[str, Artefacts]] = []
    if begins.digest is not None:
        try:
            found += sorted(index_embeddings(begins.digest).items())
        except RelaZooError as error:
            log.info(
                f"rela_zoo: the index can't be asked for transports from {begins.name}: {error.what} ({error.got})"
            )
    if begins.spec is not None:
        found += sorted(begins.spec.artefacts.items())
    return found


def _read(path: Path, place: Between, begins: _End, ends: _End) -> PriorTransport:
    """The transport, which must begin and end where it was said to; told by weights, layer and preprocessing."""
    from rela_zoo.prior import check_same_prior, identity_digest
    from rela_zoo.transport import PriorTransport

    found = PriorTransport.load(path)
    # Rows of somebody's own code know its weights by another digest than its entry.
    own_code = begins.spec is not None and begins.spec.family in ("external", "callable")
    sides = (
        (begins, found.source, found.weight.shape[0], None if own_code else begins.digest, "begins"),
        (ends, found.target, found.weight.shape[1], place.identity, "ends"),
    )
    fix = "tell whoever has published it"
    for end, side, dim, digest, verb in sides:
        what = f"the transport in {place.repo} {verb} at another prior than {end.name}"
        check_same_prior(end.known, {**side.known, "dim": dim}, what, error=TransportError, fix=fix)
        if digest is not None and digest != (own := identity_digest(side.known)):
            raise TransportError(what, expected=f"identity {digest}", got=own, fix=fix)
    return found
