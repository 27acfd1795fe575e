"""Whether two artefacts are by the same prior: told by what changes its numbers, never by its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from rela_zoo.errors import RelaZooError

Identity = Mapping[str, str | int]

# What changes the numbers. The name does not; nor does the commit, for the hash of the weights says more; nor the name
# of the preprocessing, for its digest does. Rows that were moved by a transport have no weights but the transport's.
_DECIDES = ("weights_sha256", "architecture", "layer", "dim", "preprocessing_digest", "transport_sha256", "source")
_WEIGHTS = ("weights_sha256", "transport_sha256")


def identity_differences(ours: Identity, theirs: Identity) -> list[str]:
    """Fields in which two identities differ, of those that both have; empty for the same prior.

    The name counts only where nothing better is known: where not both say which weights were used.

    Args:
        ours, theirs: as of `Prior.identity`, or with fewer fields, as rows from another program have.

    Examples:
        >>> one = {"id": "a", "weights_sha256": "0" * 64, "layer": "pooled"}
        >>> identity_differences(one, {**one, "id": "b"}), identity_differences(one, {**one, "layer": "projection"})
        ([], ['layer'])
    """

    def both(name: str) -> bool:
        return _known(ours, name) and _known(theirs, name)

    names = list(_DECIDES)
    if not any(map(both, _WEIGHTS)):
        names.append("id")
    if not both("preprocessing_digest"):
        names.append("preprocessing")
    return [name for name in names if both(name) and ours[name] != theirs[name]]


def check_same_prior(
    ours: Identity,
    theirs: Identity,
    what: str,
    *,
    error: type[RelaZooError],
    fix: str | None = None,
) -> None:
    """Refuse two artefacts by different priors where they meet.

    Args:
        ours: what is wanted.
        theirs: what came.
        what: is wrong then: "this transport is for other embeddings".
        error: to raise.
        fix: what to do.

    Raises:
        RelaZooError: of the class `error`, naming every field that differs, with both values.
    """
    differ = identity_differences(ours, theirs)
    if differ:
        raise error(
            f"{what}: {', '.join(differ)} differ{'s' * (len(differ) == 1)}",
            expected=_shown(ours, differ),
            got=_shown(theirs, differ),
            fix=fix,
        )


def identity_digest(identity: Identity) -> str:
    """sha256, hex, of what changes the numbers of a prior: by it the index is asked for its embeddings."""
    facts = {name: identity[name] for name in _DECIDES if _known(identity, name)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _known(identity: Identity, name: str) -> bool:
    return identity.get(name) not in (None, "")


def _shown(identity: Identity, names: list[str]) -> str:
    facts = [f"{name} {identity[name]}" for name in names]
    return ", ".join(facts + ([f"prior {identity['id']}"] if "id" not in names and _known(identity, "id") else []))
