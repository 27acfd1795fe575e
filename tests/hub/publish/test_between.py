"""Transports from one prior to another: published with the first, found by both, refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_server.zoo import commit_of
from typer.testing import CliRunner

from rela_zoo import embed, load_prior, open_embeddings
from rela_zoo.cli import app
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import HubError, RegistryError, TransportError
from rela_zoo.hub import pull, pull_between
from rela_zoo.hub.publish import publish
from rela_zoo.prior import identity_digest, prior_identity
from rela_zoo.registry import prior_spec
from rela_zoo.transport import PriorTransport, fit_prior_transport

OTHER, ROWS = "cifar10-resnet20", 300
PATH = f"transports/to/{OTHER}/zoo.safetensors"
runner = CliRunner()


def rows_like(folder: Path, table: EmbeddingTable, seed: int = 0) -> EmbeddingTable:
    """More rows than the few pictures of the tests, by the same prior: enough to fit and to compare."""
    mix = torch.randn(8, table.shape[1], generator=torch.Generator().manual_seed(seed))
    rows = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0)) @ mix
    info = table.info
    ids = [f"{i:03d}" for i in range(ROWS)]
    return write_rows(folder, [rows], ids, prior=info.identity, preprocessing=info.preprocessing, layer=info.layer)


@pytest.fixture
def tables(home: Any, tmp_path: Path) -> tuple[EmbeddingTable, EmbeddingTable]:
    own = rows_like(tmp_path / "own", open_embeddings(home.embeddings))
    return own, rows_like(tmp_path / "other", embed(OTHER, home.images, tmp_path / "few", progress=False), seed=1)


@pytest.fixture
def between(tables: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> Path:
    fit_prior_transport(*tables).save(tmp_path / "between.safetensors")
    return tmp_path / "between.safetensors"


def files(hub: Any, kind: str, repo: str) -> dict[str, bytes]:
    return {path: one.data for path, one in hub.store.repos[kind, repo].head.files.items()}


def run(*command: object) -> Any:
    return runner.invoke(app, [str(one) for one in command], catch_exceptions=False)


def test_published_pulled_and_used(
    writer: Any, home: Any, tables: Any, between: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = tables
    options = ["--entry", home.entry, "--embeddings", f"zoo={own.path}", "--transport", f"zoo={between}", "--yes"]
    assert run("publish", "--repo", "org/home-made", *options).exit_code == 0
    there = files(writer, "model", "org/home-made")
    assert there[PATH] == between.read_bytes()
    named = yaml.safe_load(there["prior.yaml"])["artefacts"]["zoo"]["to"][OTHER]
    assert named["identity"] == identity_digest(other.info.identity)
    assert f"transport to the space of `{OTHER}`" in there["README.md"].decode()
    assert PATH in json.loads(there["rela_zoo.json"])["files"]
    commit = commit_of("org/home-made", "model")
    index = {"format": 1, "priors": {"home-made": {"repo": "org/home-made", "revision": commit}}}
    writer.store.add("rela-zoo/registry", {"index.json": json.dumps(index).encode()}, kind="dataset")
    monkeypatch.delenv("HF_TOKEN")

    facts = json.loads(run("pull", "home-made", "--to", OTHER, "--json").stdout)
    assert (facts["source"], facts["target"], facts["dataset"]) == ("home-made", OTHER, "zoo")
    assert facts["artefacts"][0]["revision"] == commit
    pulled = facts["between"]
    assert Path(pulled).read_bytes() == between.read_bytes()
    assert pull_between(f"hf://org/home-made@{commit}", named["identity"]).path == Path(pulled)

    assert run("transport", "apply", pulled, own.path, "--out", tmp_path / "moved").exit_code == 0
    assert open_embeddings(tmp_path / "moved").shape == other.shape
    found = json.loads(run("compare", own.path, other.path, "--transport", pulled, "--json").stdout)
    given = found["given_transports"][0]
    assert (given["source"], given["target"]) == ("home-made", OTHER)
    assert given["r2"] == pytest.approx(found["pairs"]["transport_r2"][0][1], abs=1e-4)
    assert given["r2"] > 0.99


def test_of_a_packaged_prior_found_by_identity_in_the_index(
    writer: Any, tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = tables
    fit_prior_transport(other, own).save(tmp_path / "back.safetensors")
    done = publish("org/maps", entry=OTHER, transports={"zoo": tmp_path / "back.safetensors"})
    assert set(writer.store.repos) == {("dataset", "org/maps")}
    assert "to the space of `home-made`" in files(writer, "dataset", "org/maps")["README.md"].decode()
    index = {"format": 1, "priors": {}, "embeddings": done.listing}
    writer.store.add("rela-zoo/registry", {"index.json": json.dumps(index).encode()}, kind="dataset")
    monkeypatch.delenv("HF_TOKEN")
    identities = [identity_digest(one.info.identity) for one in (other, own)]
    for source in (OTHER, identities[0]):
        pulled = pull_between(source, identities[1])
        assert pulled.transport.target.prior == "home-made"
        assert (pulled.artefact.repo_type, pulled.artefact.repo) == ("dataset", "org/maps")
    with pytest.raises(HubError, match=r"(?s)no transport from cifar10-resnet20 to cifar10-resnet20"):
        pull_between(OTHER, OTHER)
    with pytest.raises(HubError, match="nothing is published"):
        pull(OTHER)  # a transport to another prior is neither embeddings nor targets


def test_a_second_publication_keeps_it_and_new_rows_drop_it(
    writer: Any, home: Any, tables: Any, between: Path, tmp_path: Path
) -> None:
    own, _ = tables
    publish("org/home-made", entry=home.entry, embeddings={"zoo": own.path}, transports={"zoo": between})
    publish("org/home-made", entry=home.entry, notes="more")
    assert PATH in files(writer, "model", "org/home-made")
    publish("org/home-made", entry=home.entry, embeddings={"zoo": home.embeddings})
    there = files(writer, "model", "org/home-made")
    assert PATH not in there
    assert "to" not in yaml.safe_load(there["prior.yaml"])["artefacts"]["zoo"]


def test_a_target_transport_and_one_to_each_other_prior_in_one_call(
    writer: Any, home: Any, tables: Any, between: Path, tmp_path: Path
) -> None:
    from rela_zoo import fit_transport

    own, _ = tables
    fit_transport(own, max_dim=4, progress=False).save(tmp_path / "t.safetensors")
    pairs = [f"zoo={tmp_path / 't.safetensors'}", f"zoo={between}"]
    publish("org/home-made", entry=home.entry, embeddings={"zoo": own.path}, transports=pairs)
    assert {PATH, "transports/zoo.safetensors"} <= set(files(writer, "model", "org/home-made"))
    with pytest.raises(TransportError, match="two transports of the same kind"):
        publish("org/home-made", entry=home.entry, transports=[pairs[1], pairs[1]])


def test_mix_ups_are_refused_before_anything_is_sent(writer: Any, home: Any, tables: Any, tmp_path: Path) -> None:
    own, other = tables
    file = tmp_path / "x.safetensors"
    fit_prior_transport(other, own).save(file)
    with pytest.raises(TransportError, match=r"(?s)does not begin at the prior.*weights_sha256"):
        publish("org/home-made", entry=home.entry, transports={"zoo": file})
    stranger = rows_like(tmp_path / "stranger", own, seed=3)
    fit_prior_transport(stranger, other).save(file)
    with pytest.raises(TransportError, match="not fitted on the embeddings"):
        publish("org/home-made", entry=home.entry, embeddings={"zoo": own.path}, transports={"zoo": file})
    nameless = write_rows(
        tmp_path / "nameless", [other.rows(range(ROWS))], other.ids, prior={"id": "who"}, preprocessing="upstream"
    )
    fit_prior_transport(own, nameless).save(file)
    with pytest.raises(TransportError, match=r"(?s)does not say which prior it leads to.*weights_sha256"):
        publish("org/home-made", entry=home.entry, transports={"zoo": file})
    with pytest.raises(RegistryError, match="name of a prior of the registry"):
        publish("org/home-made", entry=OTHER)
    assert not writer.store.repos


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("field", ["weights_sha256", "layer", "preprocessing_digest"])
def test_a_wrong_one_that_is_published_all_the_same_is_refused(hub: Any, tmp_path: Path, side: str, field: str) -> None:
    """By somebody who has not used `publish`: what the file says is compared with both priors that were named."""
    import hashlib

    right = {
        "source": dict(prior_identity(prior_spec("clip-vit-b32"))),
        "target": dict(prior_identity(prior_spec(OTHER))),
    }
    said = {name: dict(one) for name, one in right.items()}
    said[side][field] = "projection" if said[side][field] == "pooled" else "pooled" if field == "layer" else "1" * 64
    dims = [int(one["dim"]) for one in said.values()]
    tables = [
        write_rows(
            tmp_path / name, [torch.randn(60, dim, generator=torch.Generator().manual_seed(dim))],
            [str(i) for i in range(60)], prior=said[name], preprocessing="upstream", layer=str(said[name]["layer"]),
        )
        for name, dim in zip(said, dims, strict=True)
    ]  # fmt: skip
    file = tmp_path / "wrong.safetensors"
    fit_prior_transport(*tables).save(file)
    hub.store.add("org/maps", {PATH: file.read_bytes()}, kind="dataset")
    place = {
        "repo": "org/maps", "revision": commit_of("org/maps", "dataset"), "kind": "dataset", "path": PATH,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "identity": identity_digest(right["target"]),
    }  # fmt: skip
    index = {"format": 1, "embeddings": {identity_digest(right["source"]): {"zoo": {"to": {OTHER: place}}}}}
    hub.store.add("rela-zoo/registry", {"index.json": json.dumps(index).encode()}, kind="dataset")
    verb = {"source": "begins", "target": "ends"}[side]
    for source, target in (("clip-vit-b32", OTHER), tuple(identity_digest(one) for one in right.values())):
        with pytest.raises(TransportError, match=f"{verb} at another prior"):
            pull_between(source, target)


def test_where_it_does_not_belong(tables: Any, between: Path, tmp_path: Path) -> None:
    own, other = tables
    reference = load_prior(OTHER, preprocessing="rela-reference")
    few = embed(reference, tmp_path / "publisher" / "images", tmp_path / "f", progress=False)
    third = rows_like(tmp_path / "third", few)
    with pytest.raises(TransportError, match=r"(?s)not compared.*preprocessing_digest"):
        run("compare", own.path, third.path, "--transport", between)
    with pytest.raises(TransportError, match=r"(?s)not for the embeddings.*weights_sha256"):
        run("transport", "apply", between, other.path, "--out", tmp_path / "out")
    assert PriorTransport.load(between).quality is not None
