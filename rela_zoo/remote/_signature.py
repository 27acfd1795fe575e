"""`rela_zoo.sig`: who stands behind a manifest. Ed25519 over its bytes, the repository's name and the key's own.

`{"format": 1, "repository": "models/org/name", "signatures": [{"key": "rela-ed25519:…", "signature": BASE64}]}`. What
is signed begins with words that no other protocol uses: no signature made for something else is one of these.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rela_zoo._io.install import install_command
from rela_zoo.errors import RelaZooError, SignatureError

SIGNATURE = "rela_zoo.sig"
MAX_SIGNATURE_BYTES = 64 * 1024
IDENTITY_PREFIX = "rela-ed25519:"
_WORDS = b"rela-zoo manifest signature v1\n"
_FORMAT = 1
_MAX_SIGNATURES = 16
_MAX_KEY_BYTES = 16 * 1024
_REPOSITORY = re.compile(r"(?:models|datasets)/[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class SigningKey:
    """A private key in memory. Neither its text nor its errors show it.

    Attributes:
        identity: its public half, `rela-ed25519:` and 44 characters of Base64: what others trust.
    """

    identity: str
    _private: Any = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same for the same message."""
        return bytes(self._private.sign(message))


def create_key(path: str | os.PathLike[str]) -> SigningKey:
    """A new key in a new file, PEM, which only its owner can read (mode 0600). No passphrase protects it.

    Raises:
        SignatureError: there is a file already.
        OSError: it can't be written; nothing is left behind.
        RelaZooError: `cryptography` is not installed.
    """
    ed25519, serialization = _cryptography()
    place = Path(path).expanduser()
    private = ed25519.Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        # Made with this mode, not changed to it: at no moment can others open it. A link is not followed.
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SignatureError(
            f"{place} is there already", expected="a new file: a key that is lost can't be made again",
            fix="name another file, or `rela-zoo keygen --show FILE` for the public key of this one",
        ) from None  # fmt: skip
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            place.unlink()
        raise
    return _signing_key(private)


def read_key(path: str | os.PathLike[str]) -> SigningKey:
    """The key in a file that `create_key` made, or `openssl genpkey -algorithm ed25519`.

    Raises:
        SignatureError: no such file, others can read it, or it holds no such key. What it holds is not repeated.
        RelaZooError: `cryptography` is not installed.
    """
    ed25519, serialization = _cryptography()
    place = Path(path).expanduser()
    data = _private_bytes(place)
    try:
        private = serialization.load_pem_private_key(data, password=None)
    # Which error comes of what is not said by the library, and its words may quote the file.
    except Exception as error:
        got = "a key with a passphrase" if isinstance(error, TypeError) else "something else, or a part of one"
        raise _no_key(place, got) from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _no_key(place, "a key of another kind")
    return _signing_key(private)


def _private_bytes(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            state = os.fstat(file.fileno())
            data = file.read(_MAX_KEY_BYTES + 1) if stat.S_ISREG(state.st_mode) else b""
    except OSError as error:
        raise SignatureError(
            f"the key {place} can't be read", expected="a file by `rela-zoo keygen`", got=error.strerror,
            fix="correct the path, or make one: `rela-zoo keygen FILE`",
        ) from None  # fmt: skip
    if os.name == "posix" and state.st_mode & 0o077:
        raise SignatureError(
            f"others on this machine may read the key {place}", expected="mode 600", got=f"{state.st_mode & 0o777:o}",
            fix=f"chmod 600 {place}; if somebody may have read it, make another key and tell those who trust it",
        )  # fmt: skip
    if not data or len(data) > _MAX_KEY_BYTES:
        raise _no_key(place, "nothing" if not data else f"more than {_MAX_KEY_BYTES} bytes")
    return data


def _no_key(place: Path, got: str) -> SignatureError:
    return SignatureError(
        f"{place} holds no private key that signs", expected="an Ed25519 key as PEM, without a passphrase", got=got,
        fix="name the file that `rela-zoo keygen` made, or make one",
    )  # fmt: skip


def _signing_key(private: Any) -> SigningKey:
    return SigningKey(IDENTITY_PREFIX + base64.b64encode(private.public_key().public_bytes_raw()).decode(), private)


def public_bytes(identity: str) -> bytes:
    """The 32 bytes of a public key `rela-ed25519:BASE64`.

    Raises:
        SignatureError: it is none. What came is repeated only as far as it looks like one.
    """
    text = identity.removeprefix(IDENTITY_PREFIX)
    if text != identity and (found := _decoded(text, 32)) is not None:
        return found
    raise SignatureError(
        "this is no public key", expected=f"{IDENTITY_PREFIX} and 44 characters, as `rela-zoo keygen` prints it",
        got=repr(identity[:80]) if identity.startswith(IDENTITY_PREFIX) else "something else",
        fix="copy the whole line",
    )  # fmt: skip


def _decoded(text: str, length: int) -> bytes | None:
    """So many bytes from Base64; None if it is not the one way to write them: bits that are left over are zero."""
    with suppress(ValueError):
        found = base64.b64decode(text, validate=True)
        if len(found) == length and base64.b64encode(found).decode() == text:
            return found
    return None


def sign_manifest(manifest: bytes, repo: str, kind: str, keys: Sequence[SigningKey]) -> bytes:
    """The signature file that goes beside a manifest: the same bytes for the same keys, in any order.

    Args:
        manifest: bytes of `rela_zoo.json`.
        repo, kind: whose it is; the signature is of no other repository, whatever is copied there.
        keys: one, or several where one takes over from another.
    """
    made = {key.identity: key.sign(_message(manifest, repo, kind, key.identity)) for key in keys}
    listed = [{"key": name, "signature": base64.b64encode(made[name]).decode()} for name in sorted(made)]
    return (
        json.dumps({"format": _FORMAT, "repository": f"{kind}s/{repo}", "signatures": listed}, indent=1) + "\n"
    ).encode()


def check_signature(manifest: bytes, signature: bytes, repo: str, kind: str, trusted: Collection[str]) -> str:
    """The trusted key by which a manifest is signed.

    Args:
        manifest: bytes of `rela_zoo.json`.
        signature: bytes of the file beside it.
        repo, kind: whose they are said to be.
        trusted: public keys, any of which will do.

    Raises:
        SignatureError: malformed, of another repository, by other keys only, or not of these bytes.
        RelaZooError: `cryptography` is not installed.
    """
    ed25519, _ = _cryptography()
    where = f"{kind}s/{repo}"
    signed_for, listed = _parse(signature, where)
    if signed_for != where:
        raise SignatureError(
            f"the signature in {where} is of another repository", expected=where, got=signed_for,
            fix="do not use what is there; whoever moved it signs it anew: `rela-zoo publish … --sign KEYFILE`",
        )  # fmt: skip
    candidates = [name for name in listed if name in trusted]
    if not candidates:
        raise SignatureError(
            f"{where} is not signed by whom you trust", expected=_either(sorted(trusted)),
            got=f"signed by {_either(sorted(listed))}",
            fix="ask its owner, by another way than the repository, whether that key is theirs; then trust it",
        )  # fmt: skip
    from cryptography.exceptions import InvalidSignature

    for name in candidates:
        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(public_bytes(name))
            key.verify(listed[name], _message(manifest, repo, kind, name))
        except (InvalidSignature, ValueError):
            continue
        return name
    raise SignatureError(
        f"the manifest of {where} is not what {candidates[0]} has signed", expected="a manifest as it was signed",
        got="other bytes: it was changed afterwards, or the signature was",
        fix="do not use what is there, and tell its owner",
    )  # fmt: skip


def signers(signature: bytes, repo: str, kind: str) -> list[str]:
    """The keys that a signature file names. Nothing is checked but its form."""
    return sorted(_parse(signature, f"{kind}s/{repo}")[1])


def _message(manifest: bytes, repo: str, kind: str, identity: str) -> bytes:
    return b"".join([_WORDS, f"{kind}s/{repo}\n{identity}\n".encode(), manifest])


def _parse(data: bytes, where: str) -> tuple[str, dict[str, bytes]]:
    """Repository, and signature by key."""

    def wrong(got: object) -> SignatureError:
        return SignatureError(
            f"{SIGNATURE} of {where} is malformed", expected="a signature as `rela-zoo publish --sign` writes it",
            got=got, fix="choose another commit of the repository, or tell its owner",
        )  # fmt: skip

    if len(data) > MAX_SIGNATURE_BYTES:
        raise wrong(f"more than {MAX_SIGNATURE_BYTES} bytes")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wrong(type(error).__name__) from None
    if not isinstance(raw, dict) or set(raw) != {"format", "repository", "signatures"} or raw["format"] != _FORMAT:
        raise wrong("another structure or format version")
    repository, listed = raw["repository"], raw["signatures"]
    if not isinstance(repository, str) or not _REPOSITORY.fullmatch(repository) or len(repository) > 200:
        raise wrong("no name of a repository")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_SIGNATURES:
        raise wrong("no list of signatures")
    found: dict[str, bytes] = {}
    for one in listed:
        if (
            not isinstance(one, dict)
            or set(one) != {"key", "signature"}
            or not all(isinstance(v, str) for v in one.values())
        ):
            raise wrong("no key and signature")
        key, signature = one["key"], _decoded(one["signature"], 64)
        try:
            public_bytes(key)
        except SignatureError:
            signature = None
        if signature is None:
            raise wrong("a key or a signature that is none")
        found[key] = signature
    if len(found) != len(listed):
        raise wrong("a key twice")
    return repository, found


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


def _cryptography() -> tuple[Any, Any]:
    """Its two modules that are needed here."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise RelaZooError(
            "signatures need cryptography", expected="cryptography", got="not installed",
            fix=install_command("sign"),
        ) from None  # fmt: skip
    return ed25519, serialization
