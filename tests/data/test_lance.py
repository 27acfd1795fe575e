"""Lance data sets: columns as of parquet files, or one of encoded pictures."""

from __future__ import annotations

import pickle
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rela_zoo.data import image_source
from rela_zoo.embeddings import embed
from rela_zoo.errors import EmbeddingsError

from .test_tars import png

lance = pytest.importorskip("lance")
pytestmark = pytest.mark.filterwarnings("ignore:lance is not fork-safe")


@pytest.fixture
def stack(make_pictures: Any) -> np.ndarray:
    found: np.ndarray = make_pictures(9)
    return found


def table(stack: np.ndarray, structs: bool = True, path: bool = True) -> pa.Table:
    encoded, names = [png(one) for one in stack], [f"{i:02d}.png" for i in range(len(stack))]
    labels = pa.array([i % 3 for i in range(len(stack))])
    if structs:
        rows = [{"bytes": one, "path": name if path else None} for one, name in zip(encoded, names, strict=True)]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.table({"image": pa.array(rows, kind), "label": labels})
    columns = {"picture": pa.array(encoded, pa.large_binary()), "label": labels}
    return pa.table({**columns, "path": names} if path else columns)


@pytest.mark.parametrize("structs", [True, False])
@pytest.mark.parametrize("path", [True, False])
def test_it_is_read_as_the_parquet_file(tmp_path: Path, stack: np.ndarray, structs: bool, path: bool) -> None:
    lance.write_dataset(table(stack, structs, path), str(tmp_path / "a.lance"))
    pq.write_table(table(stack, True, path), tmp_path / "a.parquet")
    found, same = image_source(tmp_path / "a.lance"), image_source(tmp_path / "a.parquet")
    assert list(found.ids) == list(same.ids)
    assert list(found.labels or ()) == list(same.labels or ()) == [i % 3 for i in range(9)]
    copy = pickle.loads(pickle.dumps(found))
    for i in (8, 0, 4):
        np.testing.assert_array_equal(np.asarray(copy.image(i)), stack[i])
    assert found.probe() == same.probe()
    assert (found.stamps() is None) is (not path)


def test_workers_read_it_and_rows_are_the_same(tmp_path: Path, stack: np.ndarray, make_prior: Any) -> None:
    lance.write_dataset(table(stack), str(tmp_path / "a.lance"))
    pq.write_table(table(stack), tmp_path / "a.parquet")
    options: dict[str, Any] = {"batch_size": 2, "progress": False}
    far = embed(make_prior(), str(tmp_path / "a.lance"), tmp_path / "far", num_workers=2, **options)
    assert far.digest == embed(make_prior(), str(tmp_path / "a.parquet"), tmp_path / "near", **options).digest


def test_what_is_none(tmp_path: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    lance.write_dataset(pa.table({"x": [1, 2]}), str(tmp_path / "a.lance"))
    with pytest.raises(EmbeddingsError, match="no column of images"):
        image_source(tmp_path / "a.lance")
    (tmp_path / "b.lance" / "_versions").mkdir(parents=True)
    with pytest.raises(EmbeddingsError, match="can't be opened as a Lance data set"):
        image_source(tmp_path / "b.lance")
    monkeypatch.setitem(__import__("sys").modules, "lance", None)
    with pytest.raises(EmbeddingsError, match=r"(?s)need pylance.*\[lance\]"):
        image_source(tmp_path / "a.lance")


def test_a_split_is_what_the_name_says(tmp_path: Path, stack: np.ndarray) -> None:
    for name in ("x.lance", "x-test.lance"):
        lance.write_dataset(table(stack), str(tmp_path / name))
    assert len(image_source(tmp_path / "x-test.lance", split="test")) == 9
    for name in ("x.lance", "x-test.lance"):
        with pytest.raises(EmbeddingsError, match="no split 'train'"):
            image_source(tmp_path / name, split="train")


@pytest.mark.parametrize("structs", [True, False])
def test_what_is_written_meanwhile_changes_nothing(tmp_path: Path, stack: np.ndarray, structs: bool) -> None:
    where = str(tmp_path / "a.lance")
    lance.write_dataset(table(stack, structs), where)
    source = image_source(where)
    encoded = [source.raw(i) for i in range(9)]
    lance.write_dataset(table(stack[::-1], structs), where, mode="overwrite")
    lance.dataset(where).delete("label = 0")
    worker = pickle.loads(pickle.dumps(source))
    assert [worker.raw(i) for i in range(9)] == encoded
    assert list(worker.ids) == list(source.ids) == [f"{i:02d}.png" for i in range(9)]
    assert len(image_source(where)) == 6, "opened anew it is the newest"


def test_a_version_that_is_gone(tmp_path: Path, stack: np.ndarray) -> None:
    where = str(tmp_path / "a.lance")
    lance.write_dataset(table(stack), where)
    source = image_source(where)
    lance.write_dataset(table(stack[::-1]), where, mode="overwrite")
    lance.dataset(where).cleanup_old_versions(timedelta(0))
    for one in (source, pickle.loads(pickle.dumps(source))):
        with pytest.raises(EmbeddingsError, match=r"(?s)as it was when it was opened.*its version 1.*open it again"):
            one.raw(0)


def test_one_that_is_removed_and_written_again(tmp_path: Path, stack: np.ndarray) -> None:
    where = tmp_path / "a.lance"
    lance.write_dataset(table(stack), str(where))
    source = image_source(where)
    shutil.rmtree(where)
    lance.write_dataset(table(stack[::-1]), str(where))  # again version 1
    with pytest.raises(EmbeddingsError, match="another data set of the same name"):
        pickle.loads(pickle.dumps(source)).raw(0)
