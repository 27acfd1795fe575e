"""Sharing: pull what others have published of a prior, and remember exactly what a run used."""

from rela_zoo.hub._between import PulledBetween, pull_between
from rela_zoo.hub._lockfile import (
    LOCK_VARIABLE,
    LOCKED_VARIABLE,
    as_locked,
    given_lock,
    is_locked,
    read_lock,
    write_lock,
)
from rela_zoo.hub._newest import at_commit
from rela_zoo.hub._pull import (
    Artefact,
    Pulled,
    open_address,
    published_artefacts,
    pull,
    pull_index,
    pull_transport_address,
    weights_artefact,
)
from rela_zoo.hub._rows import pull_ids
from rela_zoo.hub._search import Found, search

__all__ = [
    "LOCKED_VARIABLE",
    "LOCK_VARIABLE",
    "Artefact",
    "Found",
    "Pulled",
    "PulledBetween",
    "as_locked",
    "at_commit",
    "given_lock",
    "is_locked",
    "open_address",
    "published_artefacts",
    "pull",
    "pull_between",
    "pull_ids",
    "pull_index",
    "pull_transport_address",
    "read_lock",
    "search",
    "weights_artefact",
    "write_lock",
]
