"""Keys and signatures: what is signed, what is refused, and that a private key is seen by nobody."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError, SignatureError
from rela_zoo.remote import (
    SigningKey,
    check_signature,
    create_key,
    read_key,
    require_signature,
    sign_manifest,
    signers,
    trusted_signers,
)

MANIFEST = b'{"format": 1, "files": {}}\n'
OF = "org/name", "model"
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_key(tmp_path / "key")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, bytes]:
    key = create_key(tmp_path_factory.mktemp("key") / "key")
    return key, sign_manifest(MANIFEST, *OF, [key])


def pem(path: Path, private: Any, encryption: Any = None) -> Path:
    path.touch(0o600)
    path.write_bytes(private.private_bytes(PEM, PKCS8, encryption or serialization.NoEncryption()))
    return path


def test_the_bytes_of_a_known_key(tmp_path: Path) -> None:
    """The format leaves the machine: it must be the same in every version."""
    key = read_key(pem(tmp_path / "key", ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))))
    assert key.identity == "rela-ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    raw = json.loads(sign_manifest(MANIFEST, *OF, [key]))
    assert (raw["format"], raw["repository"]) == (1, "models/org/name")
    (one,) = raw["signatures"]
    assert one["key"] == key.identity
    message = b"rela-zoo manifest signature v1\nmodels/org/name\n" + key.identity.encode() + b"\n" + MANIFEST
    public = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(key.identity.removeprefix("rela-ed25519:")))
    public.verify(base64.b64decode(one["signature"]), message)


def test_one_of_several_keys_is_enough_and_is_named(tmp_path: Path, key: SigningKey) -> None:
    other = create_key(tmp_path / "other")
    both = sign_manifest(MANIFEST, *OF, [key, other])
    assert both == sign_manifest(MANIFEST, *OF, [other, key, other])
    assert check_signature(MANIFEST, both, *OF, {key.identity}) == key.identity
    assert check_signature(MANIFEST, both, *OF, {other.identity}) == other.identity
    assert signers(both, *OF) == sorted([key.identity, other.identity])


def test_what_is_not_as_it_was_signed_is_refused(tmp_path: Path, key: SigningKey) -> None:
    signature, trusted = sign_manifest(MANIFEST, *OF, [key]), {key.identity}
    assert check_signature(MANIFEST, signature, *OF, trusted) == key.identity
    with pytest.raises(SignatureError, match=r"not what .* has signed"):
        check_signature(MANIFEST + b" ", signature, *OF, trusted)
    for where in (("org/other", "model"), ("org/name", "dataset")):
        with pytest.raises(SignatureError, match="of another repository"):
            check_signature(MANIFEST, signature, *where, trusted)
        moved = signature.replace(b"models/org/name", f"{where[1]}s/{where[0]}".encode())
        with pytest.raises(SignatureError, match=r"not what .* has signed"):
            check_signature(MANIFEST, moved, *where, trusted)
    stranger = create_key(tmp_path / "stranger")
    with pytest.raises(
        SignatureError, match=f"(?s)not signed by whom you trust.*signed by {re.escape(key.identity[:20])}"
    ):
        check_signature(MANIFEST, signature, *OF, {stranger.identity})
    claimed = sign_manifest(MANIFEST, *OF, [stranger]).replace(stranger.identity.encode(), key.identity.encode())
    with pytest.raises(SignatureError, match=r"not what .* has signed"):
        check_signature(MANIFEST, claimed, *OF, trusted)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.update(format=2),
        lambda raw: raw.update(more=1),
        lambda raw: raw.pop("repository"),
        lambda raw: raw.update(repository="../../etc"),
        lambda raw: raw.update(signatures=[]),
        lambda raw: raw.update(signatures=raw["signatures"] * 2),
        lambda raw: raw.update(signatures=raw["signatures"] * 17),
        lambda raw: raw["signatures"][0].update(signature=raw["signatures"][0]["signature"][:-4]),
        lambda raw: raw["signatures"][0].update(signature="no Base64!"),
        lambda raw: raw["signatures"][0].update(signature=7),
        lambda raw: raw["signatures"][0].update(key="rela-ed25519:AAAA"),
        lambda raw: raw["signatures"][0].update(key=raw["signatures"][0]["key"][:-2] + "=="),
    ],
)
def test_a_malformed_file_is_refused_as_such(signed: tuple[SigningKey, bytes], damage: Any) -> None:
    raw = json.loads(signed[1])
    damage(raw)
    with pytest.raises(SignatureError, match="is malformed"):
        check_signature(MANIFEST, json.dumps(raw).encode(), *OF, {signed[0].identity})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_part_and_no_flip_of_a_signature_is_one(signed: tuple[SigningKey, bytes], data: Any) -> None:
    key, good = signed
    at = data.draw(st.integers(0, len(good) - 2))
    bad = good[:at] if data.draw(st.booleans()) else good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))])
    try:
        found = check_signature(MANIFEST, bad + good[at + 1 :] * (len(bad) > at), *OF, {key.identity})
    except SignatureError:
        return
    # JSON has more than one way to write the same: white space.
    assert found == key.identity
    assert json.loads(bad + good[at + 1 :]) == json.loads(good)


def test_a_signature_is_written_in_one_way(signed: tuple[SigningKey, bytes]) -> None:
    """Of 88 characters the last before `==` has four bits that say nothing, and have to be zero."""
    key, good = signed
    assert check_signature(MANIFEST, good, *OF, {key.identity}) == key.identity
    end = good.index(b'=="\n')
    for other in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        bad = good[: end - 1] + bytes([other]) + good[end:]
        if bad != good:
            with pytest.raises(SignatureError):
                check_signature(MANIFEST, bad, *OF, {key.identity})


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_a_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = create_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert read_key(tmp_path / "key").identity == key.identity
    for mode in (0o640, 0o604, 0o660):
        (tmp_path / "key").chmod(mode)
        with pytest.raises(SignatureError, match=rf"(?s)others on this machine.*{mode:o}.*chmod 600"):
            read_key(tmp_path / "key")


def test_a_key_is_never_overwritten(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(SignatureError, match="there already"):
        create_key(tmp_path / "key")
    assert read_key(tmp_path / "key").identity == key.identity
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="there already"):
        create_key(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_no_error_repeats_what_a_key_file_holds(tmp_path: Path, key: SigningKey) -> None:
    text = (tmp_path / "key").read_bytes()
    secret = text.splitlines()[1].decode()
    private = serialization.load_pem_private_key(text, None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    bad = {
        "half": text[: len(text) // 2], "empty": b"", "noise": os.urandom(300), "long": text * 200,
        "cut": text.replace(b"PRIVATE KEY", b"PRIVATE"), "public": key.identity.encode(),
    }  # fmt: skip
    paths = [pem(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))]
    paths.append(pem(tmp_path / "locked", private, serialization.BestAvailableEncryption(b"word")))
    for name, data in bad.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(data)
        paths.append(tmp_path / name)
    for path in [*paths, tmp_path, tmp_path / "none"]:
        with pytest.raises(SignatureError) as caught:
            read_key(path)
        chain = caught.getrepr(showlocals=False, style="native")
        assert secret not in str(chain)
    assert secret not in repr(key)
    assert base64.b64encode(private.private_bytes_raw()).decode() not in repr(key)
    # Given where a public key belongs.
    for wrong in (str(tmp_path / "key"), secret, text.decode()):
        with pytest.raises(RelaZooError) as other, require_signature(wrong):
            pass
        assert secret not in str(other.value)
    with pytest.raises(SignatureError, match="a key with a passphrase"):
        read_key(tmp_path / "locked")


def test_keys_of_openssl_are_keys(tmp_path: Path) -> None:
    made = tmp_path / "key.pem"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(made)], check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    made.chmod(0o600)
    assert check_signature(MANIFEST, sign_manifest(MANIFEST, *OF, [key := read_key(made)]), *OF, [key.identity])


def test_the_command(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["keygen", str(tmp_path / "key")], catch_exceptions=False)
    identity = made.stdout.strip()
    assert identity == read_key(tmp_path / "key").identity
    shown = CliRunner().invoke(app, ["keygen", str(tmp_path / "key"), "--show"], catch_exceptions=False)
    assert shown.stdout.strip() == identity
    secret = (tmp_path / "key").read_text().splitlines()[1]
    assert secret not in made.output + shown.output


def test_whom_to_trust(tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    other = create_key(tmp_path / "other").identity
    monkeypatch.delenv("RELA_ZOO_TRUSTED", raising=False)
    assert trusted_signers() is None
    listed = tmp_path / "trusted"
    listed.write_text(f"# ours\n\n{key.identity} ann@lab  # since 2026\n{other}\n")
    monkeypatch.setenv("RELA_ZOO_TRUSTED", str(listed))
    assert trusted_signers() == {key.identity, other}
    with require_signature(other):
        assert trusted_signers() == {other}
        with require_signature([listed, key.identity]):
            assert trusted_signers() == {key.identity, other}
    monkeypatch.setenv("RELA_ZOO_TRUSTED", other)
    assert trusted_signers() == {other}
    # A list that can't be read asks for a signature by nobody; it never asks for none.
    for text in ("# nobody\n", f"{key.identity[:-1]}\n", "ssh-ed25519 AAAA\n"):
        listed.write_text(text)
        monkeypatch.setenv("RELA_ZOO_TRUSTED", str(listed))
        with pytest.raises(RelaZooError, match="public key"):
            trusted_signers()
    monkeypatch.setenv("RELA_ZOO_TRUSTED", str(tmp_path / "none"))
    with pytest.raises(RelaZooError, match="no file of them"):
        trusted_signers()
