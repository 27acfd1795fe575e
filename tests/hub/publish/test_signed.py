"""Signed publications: pulled by whoever insists on the signer, refused otherwise; from the Hub and from a folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rela_zoo import load_prior, open_embeddings, pull
from rela_zoo.cli import app
from rela_zoo.errors import HubError, RelaZooError, SignatureError
from rela_zoo.hub import open_address, read_lock, write_lock
from rela_zoo.hub.publish import publish
from rela_zoo.registry import prior_spec
from rela_zoo.remote import SIGNATURE, SigningKey, check_signature, create_key, require_signature, sign_manifest

MODEL, ROWS = "org/home-made", "org/home-made-embeddings"
ALL = ("embeddings", "transport", "weights")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_key(tmp_path / "key")


@pytest.fixture
def other(tmp_path: Path) -> SigningKey:
    return create_key(tmp_path / "other")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """As in a new process: nothing was found signed before."""
    known: dict[Any, Any] = {}
    monkeypatch.setattr("rela_zoo.remote._signed._known", known)
    monkeypatch.delenv("RELA_ZOO_TRUSTED", raising=False)
    return known


@pytest.fixture
def folder(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mirror, and no Hub."""
    hub.stop()
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")
    monkeypatch.setenv("RELA_ZOO_MIRROR", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def at(folder: Path, kind: str = "models", repo: str = MODEL) -> Path:
    return folder / kind / repo / (folder / kind / repo / "refs" / "main").read_text()


def head(hub: Any, kind: str = "model", repo: str = MODEL) -> dict[str, bytes]:
    return {path: blob.data for path, blob in hub.store.repos[kind, repo].head.files.items()}


def test_a_signed_publication_is_pulled_by_whoever_insists(
    writer: Any, send: Any, tmp_path: Path, key: SigningKey, other: SigningKey
) -> None:
    done = send(sign=[tmp_path / "key"])
    for kind, repo in (("model", MODEL), ("dataset", ROWS)):
        files = head(writer, kind, repo)
        assert check_signature(files["rela_zoo.json"], files[SIGNATURE], repo, kind, {key.identity}) == key.identity
        assert SIGNATURE not in json.loads(files["rela_zoo.json"])["files"]
    pulled = pull(done.name, what=ALL, require_signature=key.identity)
    assert len(open_embeddings(pulled.embeddings, verify="full")) == 20
    assert {one.kind: one.signed_by for one in pulled.artefacts} == dict.fromkeys(ALL, key.identity)
    assert {one.signed_by for one in pull(done.name).artefacts} == {None}, "nobody asked"
    with pytest.raises(SignatureError, match=f"(?s)not signed by whom you trust.*{re.escape(other.identity[:24])}"):
        pull(done.name, require_signature=other.identity)
    again = send(sign=[tmp_path / "key"])
    assert (again.commit, again.changed) == (done.commit, False), "the same key makes the same signature"


def test_the_lock_says_who_has_signed(writer: Any, send: Any, tmp_path: Path, key: SigningKey) -> None:
    done = send(sign=[tmp_path / "key"])
    write_lock(tmp_path / "run", pull(done.name, require_signature=key.identity).artefacts)
    lock = tmp_path / "run" / "rela.lock"
    assert {one.signed_by for one in read_lock(lock)} == {key.identity}
    raw = json.loads(lock.read_text())
    for one in raw["artefacts"]:
        del one["signed_by"]  # as earlier versions wrote it
    lock.write_text(json.dumps(raw))
    assert {one.signed_by for one in read_lock(lock)} == {None}


def test_what_nobody_signed_is_refused_before_it_is_asked_for(
    writer: Any, send: Any, tmp_path: Path, key: SigningKey
) -> None:
    done = send()
    writer.requests.clear()
    with pytest.raises(SignatureError, match=rf"(?s)models/org/home-made is not signed.*{SIGNATURE}"):
        pull(done.name, require_signature=key.identity)
    assert writer.calls("rela_zoo.sig")
    assert not writer.calls("prior.yaml|safetensors|ids.jsonl|index.json")


def test_a_signed_entry_does_not_vouch_for_a_repository_that_is_not(
    writer: Any, send: Any, tmp_path: Path, key: SigningKey
) -> None:
    done = send(sign=[tmp_path / "key"])
    rows = writer.store.repos["dataset", ROWS]
    files = dict(rows.head.files)
    del files[SIGNATURE]
    rows.commits[rows.head.oid].files.clear()
    rows.commits[rows.head.oid].files.update(files)
    writer.requests.clear()
    with pytest.raises(SignatureError, match="datasets/org/home-made-embeddings is not signed"):
        pull(done.name, require_signature=key.identity)
    assert not writer.calls("shard-")
    assert pull(done.name, what=("transport",), require_signature=key.identity).transport.is_file()


def test_addresses_and_priors_by_name_insist_as_well(
    writer: Any, send: Any, tmp_path: Path, key: SigningKey, other: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = send(sign=[tmp_path / "key"])
    address = f"hf://{ROWS}@{done.dataset_commit}/zoo"
    (tmp_path / "trusted").write_text(f"{key.identity} the lab\n")
    monkeypatch.setenv("RELA_ZOO_TRUSTED", str(tmp_path / "trusted"))
    table, artefact = open_address(address)
    assert (len(table), artefact.signed_by) == (20, key.identity)
    assert load_prior(done.name).dim == 64
    assert load_prior("cifar10-resnet20").dim == 64, "what came with the package is not the Hub's"
    monkeypatch.setenv("RELA_ZOO_TRUSTED", other.identity)
    for refused in (lambda: open_address(address), lambda: prior_spec(done.name), lambda: load_prior(done.name)):
        with pytest.raises(SignatureError, match="not signed by whom you trust"):
            refused()


def test_a_training_that_pulls_by_itself_insists(
    writer: Any, home: Any, send: Any, tmp_path: Path, key: SigningKey, other: SigningKey,
    monkeypatch: pytest.MonkeyPatch, said: Any,
) -> None:  # fmt: skip
    from rela_zoo.engine import fetch_for_run, plan_rela
    from rela_zoo.errors import ConfigError

    done = send(sign=[tmp_path / "key"])
    monkeypatch.setenv("RELA_ZOO_TRUSTED", key.identity)
    plan = plan_rela({"prior": done.name})
    assert fetch_for_run(plan, str(home.images)) == []
    assert "embeddings of zoo by home-made, published in" in str(said)
    monkeypatch.setenv("RELA_ZOO_TRUSTED", other.identity)
    with pytest.raises(ConfigError, match="not signed by whom you trust"):
        plan_rela({"prior": done.name})
    (line,) = fetch_for_run(plan, str(home.images))
    assert "will be computed on the spot" in line
    assert "are not used: datasets/org/home-made-embeddings is not signed by whom you trust" in str(said)
    monkeypatch.setenv("RELA_ZOO_TRUSTED", str(tmp_path / "none"))
    with pytest.raises(RelaZooError, match="no public key, and no file of them"):
        fetch_for_run(plan, str(home.images))


def test_a_name_whose_hash_is_the_hubs_own_word_is_refused(
    hub: Any, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELA_ZOO_TRUSTED", key.identity)
    with pytest.raises(SignatureError, match="the Hub's own word"):
        prior_spec("timm:resnet18.a1_in1k")
    assert not hub.requests


@pytest.mark.parametrize("repo", [("models", MODEL), ("datasets", ROWS)])
@pytest.mark.parametrize("attack", ["manifest", "half", "empty", "noise", "moved", "copied", "none", "file", "added"])
def test_a_folder_that_was_tampered_with_is_refused(
    folder: Path, home: Any, send: Any, tmp_path: Path, key: SigningKey, repo: tuple[str, str], attack: str,
    fresh: dict[Any, Any],
) -> None:  # fmt: skip
    done = send(to=folder, sign=[tmp_path / "key"])
    assert pull(done.name, what=ALL, require_signature=key.identity).weights.is_relative_to(folder)
    fresh.clear()
    place = at(folder, *repo)
    signature, manifest = place / SIGNATURE, place / "rela_zoo.json"
    files = json.loads(manifest.read_text())["files"]
    expected = "not signed|has signed|malformed|of another repository"
    if attack == "manifest":
        victim = next(path for path in files if path.endswith((".yaml", "index.json")))
        (place / victim).write_bytes((place / victim).read_bytes() + b"\n")
        import hashlib

        data = (place / victim).read_bytes()
        files[victim] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest.unlink()
        manifest.write_text(json.dumps({"format": 1, "files": files}))
    elif attack == "half":
        signature.write_bytes(signature.read_bytes()[:150])
    elif attack == "empty":
        signature.write_bytes(b"")
    elif attack == "noise":
        signature.write_bytes(bytes(range(256)))
    elif attack in ("moved", "copied"):  # of another repository by the same key; and with its manifest
        send("org/second", to=folder, sign=[tmp_path / "key"])
        from_there = at(folder, repo[0], repo[1].replace("home-made", "second"))
        shutil.copy(from_there / SIGNATURE, signature)
        if attack == "copied":
            manifest.unlink()
            shutil.copy(from_there / "rela_zoo.json", manifest)
    elif attack == "none":
        signature.unlink()
    elif attack == "file":
        victim = next(path for path in files if path.endswith((".yaml", "index.json")))
        data = (place / victim).read_bytes()
        (place / victim).unlink()
        (place / victim).write_bytes(data[:-2] + b"x\n")
        expected = "damaged"
    else:  # a file that nobody has signed for, in place of one that somebody has
        del files["prior.yaml" if repo[0] == "models" else "zoo/index.json"]
        manifest.unlink()
        manifest.write_text(json.dumps({"format": 1, "files": files}))
        signature.write_bytes(sign_manifest(manifest.read_bytes(), repo[1], repo[0][:-1], [key]))
        expected = "does not vouch for"
    with pytest.raises(RelaZooError, match=expected):
        pull(done.name, what=ALL, require_signature=key.identity)


def test_a_version_without_a_signature_takes_the_old_one_away(
    writer: Any, home: Any, send: Any, tmp_path: Path, key: SigningKey
) -> None:
    first = send(sign=[tmp_path / "key"])
    same = send()
    assert (same.commit, SIGNATURE in head(writer)) == (first.commit, True), "nothing changed: it is still signed"
    home.change_entry(title="Another title")
    plan = send(dry_run=True).plan
    assert (plan.model.unsigns, plan.dataset.unsigns) == (True, False)
    second = send()
    assert SIGNATURE not in head(writer)
    assert SIGNATURE in head(writer, "dataset", ROWS), "the rows are those that were signed"
    with pytest.raises(SignatureError, match="models/org/home-made is not signed"):
        pull(second.name, require_signature=key.identity)
    assert pull(first.name, require_signature=key.identity).transport.is_file(), "versions stay what they were"


def test_in_a_folder_the_stale_signature_goes_too(
    folder: Path, home: Any, send: Any, tmp_path: Path, key: SigningKey
) -> None:
    send(to=folder, sign=[tmp_path / "key"])
    assert (at(folder) / SIGNATURE).is_file()
    home.change_entry(title="Another title")
    send(to=folder)
    assert not (at(folder) / SIGNATURE).exists()
    assert (at(folder, "datasets", ROWS) / SIGNATURE).is_file()


def test_nothing_is_signed_that_somebody_else_may_have_written(
    writer: Any, home: Any, send: Any, tmp_path: Path, key: SigningKey, other: SigningKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    send()
    with pytest.raises(SignatureError, match=r"(?s)you have not signed.*not signed.*--replace"):
        send(sign=[tmp_path / "key"])
    assert SIGNATURE not in head(writer)
    first = send(sign=[tmp_path / "key"], replace=True)
    # A new key takes over: told whom to trust, it keeps what the old one has signed.
    home.change_entry(title="Another title")
    with pytest.raises(SignatureError, match="you have not signed"):
        send(sign=[tmp_path / "other"])
    monkeypatch.setenv("RELA_ZOO_TRUSTED", key.identity)
    second = send(sign=[tmp_path / "other"], embeddings={}, transports={})
    monkeypatch.delenv("RELA_ZOO_TRUSTED")
    assert pull(second.name, what=("transport",), require_signature=other.identity).transport.is_file()
    assert pull(first.name, require_signature=key.identity).transport.is_file()
    # Both at once, while others still trust the old one only.
    monkeypatch.setenv("RELA_ZOO_TRUSTED", key.identity)
    third = send(sign=[tmp_path / "key", tmp_path / "other"])
    monkeypatch.delenv("RELA_ZOO_TRUSTED")
    for one in (key, other):
        assert pull(third.name, require_signature=one.identity).artefacts[0].signed_by == one.identity


def test_an_entry_that_was_changed_on_the_hub_is_not_signed(
    writer: Any, home: Any, send: Any, tmp_path: Path, key: SigningKey
) -> None:
    send(sign=[tmp_path / "key"])
    forged = head(writer)["prior.yaml"].replace(b"ResNet-8 of one's own", b"ResNet-8 of somebody")
    writer.store.add(MODEL, {"prior.yaml": forged})
    with pytest.raises(SignatureError, match=r"(?s)you have not signed.*is not what was signed"):
        send(sign=[tmp_path / "key"], embeddings={}, transports={})


def test_a_key_is_read_before_anything_else(send: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nonsense")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(SignatureError, match="holds no private key"):
        send(sign=[tmp_path / "key"], embeddings={"zoo": tmp_path / "none"})


def test_the_commands(
    writer: Any, home: Any, tmp_path: Path, key: SigningKey, other: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    secret = (tmp_path / "key").read_text().splitlines()[1]
    runner = CliRunner()
    command = [
        "publish", "--repo", MODEL, "--entry", str(home.entry), "--embeddings", f"zoo={home.embeddings}", "--yes",
        "--sign", str(tmp_path / "key"),
    ]  # fmt: skip
    published = runner.invoke(app, command, catch_exceptions=False)
    assert f"signed by {key.identity}" in published.stdout
    assert "rela_zoo.sig" in published.stdout
    name = next(word for word in published.stdout.split() if word.startswith("hf://"))
    pulled = runner.invoke(app, ["pull", name, "--require-signature", key.identity], catch_exceptions=False)
    assert f"signed by {key.identity}" in pulled.stdout
    with pytest.raises(HubError, match="not signed by whom you trust"):
        runner.invoke(app, ["pull", name, "--require-signature", other.identity], catch_exceptions=False)
    as_json = runner.invoke(app, ["pull", name, "--json", "--require-signature", str(key.identity)])
    assert {one["signed_by"] for one in json.loads(as_json.stdout)["artefacts"]} == {key.identity}
    assert secret not in published.output + pulled.output + caplog.text
    for repo in writer.store.repos.values():
        assert not any(secret.encode() in blob.data for blob in repo.head.files.values())


def test_rows_of_a_packaged_prior_are_signed_and_listed(
    writer: Any, home: Any, tmp_path: Path, key: SigningKey
) -> None:
    from rela_zoo import embed

    embed(load_prior("cifar10-resnet20"), home.images, tmp_path / "rows", progress=False)
    done = publish("org/rows", entry="cifar10-resnet20", embeddings={"zoo": tmp_path / "rows"}, sign=[tmp_path / "key"])
    assert done.listing is not None
    with require_signature(key.identity):
        table, artefact = open_address(f"{done.name}/zoo")
    assert (len(table), artefact.signed_by) == (20, key.identity)
