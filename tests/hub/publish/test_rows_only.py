"""Embeddings of a prior that comes with rela-zoo: published by anybody, found by everybody who names the prior."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo import embed, fit_transport
from rela_zoo.data import image_source
from rela_zoo.engine import plan_rela
from rela_zoo.engine.targets import resolve_targets
from rela_zoo.errors import EmbeddingsError, RegistryError, TransportError
from rela_zoo.hub import pull
from rela_zoo.hub.publish import Details, publish

NAME = "cifar10-resnet20"


@pytest.fixture
def rows(home: Any, tmp_path: Path) -> Path:
    table = embed(NAME, home.images, tmp_path / "rows", progress=False)
    fit_transport(table, max_dim=4).save(tmp_path / "t.safetensors")
    return table.path


def send(rows: Path, **more: Any) -> Any:
    options = {"embeddings": {"zoo": rows}, "transports": {"zoo": rows.parent / "t.safetensors"}, **more}
    return publish("org/rows", entry=NAME, **options)


def test_published_by_anybody_and_found_by_the_name_of_the_prior(
    writer: Any, home: Any, rows: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    done = send(rows)
    assert ("model", "org/rows") not in writer.store.repos
    assert set(writer.store.repos) == {("dataset", "org/rows")}
    assert done.tag == "v1"
    files = writer.store.repos["dataset", "org/rows"].head.files
    assert {"zoo/index.json", "transports/zoo.safetensors", "rela_zoo.json", "README.md"} <= set(files)
    assert b"cifar10-resnet20` of rela-zoo" in files["README.md"].data
    assert not send(rows).changed
    index = json.dumps({"format": 1, "priors": {}, "embeddings": done.listing}).encode()
    writer.store.add("rela-zoo/registry", {"index.json": index}, kind="dataset")
    monkeypatch.delenv("HF_TOKEN")
    targets = resolve_targets(plan_rela({"prior": NAME}).only, image_source(home.images), device=torch.device("cpu"))
    assert {one.kind: one.repo for one in targets.artefacts} == {"embeddings": "org/rows", "transport": "org/rows"}
    assert "published in org/rows" in str(said)
    assert targets.transport.max_dim == 4
    pulled = pull(NAME, "zoo")
    assert pulled.embeddings is not None
    assert {one.kind: one.repo_type for one in pulled.artefacts} == {"embeddings": "dataset", "transport": "dataset"}


def test_another_data_set_joins_the_first(writer: Any, home: Any, rows: Path, tmp_path: Path) -> None:
    send(rows)
    two = embed(NAME, home.images / "ant", tmp_path / "two", progress=False)
    publish("org/rows", entry=NAME, embeddings={"ants": two.path})
    files = writer.store.repos["dataset", "org/rows"].head.files
    assert {"zoo/index.json", "ants/index.json", "transports/zoo.safetensors"} <= set(files)
    publish("org/rows", entry=NAME, embeddings={"zoo": two.path})
    files = writer.store.repos["dataset", "org/rows"].head.files
    assert "transports/zoo.safetensors" not in files, "it was fitted on other rows"


def test_rows_of_another_prior_are_refused(writer: Any, home: Any, rows: Path) -> None:
    with pytest.raises(EmbeddingsError, match=r"(?s)not by the prior.*weights_sha256"):
        publish("org/rows", entry=NAME, embeddings={"zoo": home.embeddings})
    with pytest.raises(TransportError, match=r"(?s)for another prior.*weights_sha256"):
        send(rows, transports={"zoo": home.transport})
    with pytest.raises(RegistryError, match=r"(?s)name of a prior of the registry.*--embeddings"):
        publish("org/rows", entry=NAME)
    with pytest.raises(RegistryError, match="without a model card"):
        send(rows, notes="# x")
    assert not writer.store.repos


def test_the_prior_itself_under_another_name_is_a_prior(writer: Any, home: Any, rows: Path) -> None:
    done = send(rows, details=Details(id="my-copy"))
    assert done.listing is None
    assert ("model", "org/rows") in writer.store.repos
