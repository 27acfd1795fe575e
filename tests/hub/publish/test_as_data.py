"""Published embeddings are a data set: what `publish` uploaded is read without rela_zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest
import yaml

from rela_zoo import embed, load_prior, open_embeddings, pull
from rela_zoo.errors import EmbeddingsError

REPO = "org/home-made-embeddings"


def files(hub: Any, repo: str = REPO) -> dict[str, bytes]:
    return {path: one.data for path, one in hub.store.repos["dataset", repo].head.files.items()}


def head(hub: Any) -> dict[str, Any]:
    found = yaml.safe_load(files(hub)["README.md"].decode().split("---\n")[1])
    assert isinstance(found, dict)
    return found


@pytest.fixture
def load(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`datasets.load_dataset` as a stranger calls it."""
    import datasets
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return datasets.load_dataset


@pytest.fixture
def labels(home: Any, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    rows = [f"{one},{one.split('/')[0]},train" for one in reversed(open_embeddings(home.embeddings).ids)]
    path.write_text("\n".join(["id,label,split", *rows, "more/than/there.png,x,test"]))
    return path


@pytest.fixture
def prior(home: Any) -> Any:
    with pytest.warns(UserWarning, match="no known hash"):
        return load_prior(home.entry)


def same_bits(embeddings: Any, home: Any) -> None:
    rows = open_embeddings(home.embeddings).rows(range(20)).numpy()
    found = np.stack([np.asarray(one, dtype=np.float16) for one in embeddings])
    np.testing.assert_array_equal(found.view(np.uint16), rows.view(np.uint16))


def test_load_dataset_reads_every_bit(writer: Any, home: Any, send: Any, load: Any) -> None:
    send()
    rows = load(REPO, split="train")
    table = open_embeddings(home.embeddings)
    assert rows["id"][:] == list(table.ids)
    assert str(rows.features["embedding"]) == "List(Value('float16'), length=64)"
    same_bits(rows.with_format("numpy")["embedding"][:], home)
    assert load(REPO, "zoo", split="train", streaming=True).take(1)  # what the viewer does


def test_each_data_set_is_a_configuration(
    writer: Any, home: Any, prior: Any, send: Any, load: Any, labels: Path, tmp_path: Path
) -> None:
    """With labels, where the publisher says that they may be seen; they stay when they are not given again."""
    send(labels={"zoo": labels})
    before = files(writer)
    assert not send().changed
    other = embed(prior, home.images / "ant", tmp_path / "two", dtype="float32", progress=False)
    send(embeddings={"ants": other.path}, transports={})
    assert {path: one for path, one in files(writer).items() if path.startswith("zoo/")} == {
        path: one for path, one in before.items() if path.startswith("zoo/")
    }
    zoo, ants = load(REPO, "zoo", split="train"), load(REPO, "ants", split="train")
    assert zoo.column_names == ["id", "split", "label", "embedding"]
    assert set(zip(zoo["label"], [one.split("/")[0] for one in zoo["id"]], strict=True)) == {
        ("ant", "ant"), ("bee", "bee")
    }  # fmt: skip
    assert (len(ants), ants.column_names) == (10, ["id", "embedding"])
    assert str(ants.features["embedding"]) == "List(Value('float32'), length=64)"
    info = {one["config_name"]: one for one in head(writer)["dataset_info"]}
    assert info["zoo"]["splits"][0]["num_examples"] == 20
    assert info["zoo"]["download_size"] == len(before["zoo/rows-00000-of-00001.parquet"])


def test_labels_of_other_rows_are_refused(writer: Any, send: Any, labels: Path) -> None:
    for text, says in (
        ("id,label\nant/0.png,1\n", r"(?s)one thing of every sample.*19 missing"),
        ("id,thumbnail\nant/0.png,1\n", "other columns than are published"),
    ):
        labels.write_text(text)
        with pytest.raises(EmbeddingsError, match=says):
            send(labels={"zoo": labels})
    with pytest.raises(EmbeddingsError, match="no embeddings"):
        send(labels={"other": labels})
    assert not writer.store.repos


def test_pandas_polars_and_duckdb(writer: Any, home: Any, send: Any, tmp_path: Path) -> None:
    send()
    path = tmp_path / "rows.parquet"
    path.write_bytes(files(writer)["zoo/rows-00000-of-00001.parquet"])
    ids = list(open_embeddings(home.embeddings).ids)
    frame = pandas.read_parquet(path)
    assert list(frame["id"]) == ids
    same_bits(frame["embedding"], home)
    table = polars.read_parquet(path)
    assert table["id"].to_list() == ids
    same_bits(table["embedding"].to_list(), home)
    query = files(writer)["README.md"].decode().split("```sql\n")[1].split("```")[0]
    for there, here in ((f"hf://datasets/{REPO}/zoo/", ""), ("rows-*", path), ("rows-00000-*", path)):
        query = query.replace(there, str(here).removesuffix(".parquet"))
    found = duckdb.sql(query).fetchall()
    rows = np.stack(frame["embedding"]).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[0]))[:5]
    assert [one for one, _ in found] == [ids[number] for number in order]
    np.testing.assert_allclose([one for _, one in found], (unit @ unit[0])[order], atol=1e-5)


def test_the_files_are_made_for_reading_here_and_there(writer: Any, home: Any, send: Any, tmp_path: Path) -> None:
    send()
    path = tmp_path / "rows.parquet"
    path.write_bytes(files(writer)["zoo/rows-00000-of-00001.parquet"])
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    assert (column.path_in_schema, column.compression) == ("embedding.list.element", "UNCOMPRESSED")
    assert column.has_offset_index
    shard = (home.embeddings / "shard-00000.safetensors").read_bytes()
    assert shard[-20 * 64 * 2 :] in path.read_bytes(), "the same bytes as in the shard"


@pytest.fixture
def send_as_before(send: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`publish` as it was: shards, ids and index, and a card that names no files."""

    def call(**options: Any) -> Any:
        with monkeypatch.context() as older:
            older.setattr("rela_zoo.hub.publish._rows_repository._make_parquet", lambda *_: ([], None))
            return send(**options)

    return call


def test_the_layout_from_before_is_pulled_and_published_over(
    writer: Any, home: Any, prior: Any, send: Any, send_as_before: Any, load: Any, tmp_path: Path
) -> None:
    ants = embed(prior, home.images / "ant", tmp_path / "two", progress=False)
    old = send_as_before(embeddings={"zoo": home.embeddings, "ants": ants.path})
    before = files(writer)
    assert not [path for path in before if "parquet" in path]
    assert "configs" not in head(writer)
    assert open_embeddings(pull(old.name, "ants").embeddings, verify="full").digest == ants.digest
    done = send()
    after = files(writer)
    assert {path for path in after if path not in before} == {"zoo/rows-00000-of-00001.parquet"}
    assert all(after[path] == one for path, one in before.items() if path not in ("README.md", "rela_zoo.json"))
    assert b"Not of `ants`" in after["README.md"]
    assert open_embeddings(pull(done.name, "ants").embeddings, verify="full").digest == ants.digest
    assert (
        open_embeddings(pull(done.name, "zoo").embeddings, verify="full").digest
        == json.loads((home.embeddings / "index.json").read_bytes())["digest"]
    )
    assert len(load(REPO, split="train")) == 20


def test_a_pull_asks_for_no_parquet(writer: Any, send: Any) -> None:
    done = send()
    writer.requests.clear()
    pull(done.name)
    assert writer.calls("shard-00000")
    assert not writer.calls("parquet")


def test_an_edited_card_keeps_its_words_and_says_where_the_rows_are(
    writer: Any, send: Any, send_as_before: Any, load: Any
) -> None:
    send_as_before()
    for card in (b"---\nlicense: mit\n# mine\ntags:\n- x\n---\n# My rows\n", b"# My rows, bare\n"):
        writer.store.add(REPO, {"README.md": card}, kind="dataset")
        done = send()
        assert done.plan.dataset.card_kept
        now = files(writer)["README.md"]
        assert now.endswith(card.split(b"---\n")[-1])
        assert all(line in now for line in card.splitlines())
        assert len(load(REPO, split="train")) == 20
        assert not send().changed
