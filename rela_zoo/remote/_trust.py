"""Whose signatures are asked for: `RELA_ZOO_TRUSTED`, or `require_signature` for a part of a program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rela_zoo.errors import RelaZooError, SignatureError
from rela_zoo.remote._signature import IDENTITY_PREFIX, public_bytes

TRUSTED_VARIABLE = "RELA_ZOO_TRUSTED"
_MAX_BYTES = 1 << 20
_PEM_BODY = "MC4CAQAwBQYDK2Vw"  # how the text of every Ed25519 key begins

_required: ContextVar[frozenset[str] | None] = ContextVar("rela_zoo_required_signers", default=None)


def trusted_signers() -> frozenset[str] | None:
    """Public keys, one of which must have signed whatever is taken from the Hub or a mirror; None: nobody must.

    Raises:
        RelaZooError: `RELA_ZOO_TRUSTED` names none.
    """
    required = _required.get()
    if required is not None:
        return required
    setting = os.environ.get(TRUSTED_VARIABLE, "").strip()
    return read_identities([setting], TRUSTED_VARIABLE) if setting else None


@contextmanager
def require_signature(identities: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[None]:
    """Inside the block only what one of these has signed is taken from the Hub or a mirror.

    It holds for this thread, in place of `RELA_ZOO_TRUSTED`, which holds for processes.

    Args:
        identities: public keys `rela-ed25519:…`, or files with one a line.

    Raises:
        RelaZooError: there is none in them.
    """
    given = [identities] if isinstance(identities, str | os.PathLike) else list(identities)
    token = _required.set(read_identities([os.fspath(one) for one in given], "the signature that is required"))
    try:
        yield
    finally:
        _required.reset(token)


def read_identities(given: Iterable[str], what: str) -> frozenset[str]:
    """Public keys from words and files; of a line in a file the first word counts, and `#` begins a comment.

    Raises:
        RelaZooError: a file that is not there, a line that is no public key, or none at all. No line is repeated: the
            file may be a private key by mistake.
    """
    found: set[str] = set()
    for one in given:
        if one.startswith(IDENTITY_PREFIX):
            found.add(_checked(one, what))
            continue
        try:
            with Path(one).expanduser().open("rb") as file:
                lines = file.read(_MAX_BYTES).decode("utf-8").splitlines()
        except (OSError, ValueError) as error:
            got = error.strerror if isinstance(error, OSError) else "no text"
            # A private key that was pasted here is not repeated, either.
            name = "something else" if "\n" in one or one.startswith(_PEM_BODY) else one[:200]
            raise RelaZooError(
                f"{what}: no public key, and no file of them", expected=f"{IDENTITY_PREFIX}…, or a file of such lines",
                got=f"{name}: {got}", fix="correct it; `rela-zoo keygen --show KEYFILE` prints a public key",
            ) from None  # fmt: skip
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if words:
                found.add(_checked(words[0], f"{what}: line {number} of {one}"))
    if not found:
        raise RelaZooError(f"{what}: there is no public key in it", expected=f"{IDENTITY_PREFIX}…, one a line")
    return frozenset(found)


def _checked(identity: str, what: str) -> str:
    try:
        public_bytes(identity)
    except SignatureError as error:
        raise RelaZooError(f"{what}: {error.what}", expected=error.expected, got=error.got, fix=error.fix) from None
    return identity
