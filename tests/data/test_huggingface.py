"""Data sets of the `datasets` library: objects, what they save, their cache; the same ids and pixels as parquet."""

from __future__ import annotations

import io
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rela_zoo.data import ImageSource, image_source
from rela_zoo.errors import EmbeddingsError

datasets = pytest.importorskip("datasets")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def loaded(stack: Any, names: Any = None, column: str = "img", **columns: Any) -> Any:
    """A `Dataset` of encoded images and class numbers."""
    rows = [{"bytes": png(one), "path": None if names is None else names[i]} for i, one in enumerate(stack)]
    features = {column: datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    features |= {name: datasets.Value("string") for name in columns}
    content = {column: rows, "label": [i % 2 for i in range(len(rows))], **columns}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def same(a: ImageSource, b: ImageSource) -> None:
    assert list(a.ids) == list(b.ids)
    assert [a.raw(i) for i in range(len(a))] == [b.raw(i) for i in range(len(b))]
    assert list(a.labels or ()) == list(b.labels or ())
    assert list(a.classes) == list(b.classes)
    assert a.probe() == b.probe()


@pytest.mark.parametrize("names", [None, ["a.png", "b.png", "c.png", "d.png"], ["a.png"] * 4])
@pytest.mark.parametrize("column", ["img", "image", "photo"])
def test_object_files_and_parquet_agree(tmp_path: Path, make_pictures: Any, names: Any, column: str) -> None:
    data = loaded(make_pictures(4), names, column)
    data.to_parquet(tmp_path / "x.parquet")
    data.save_to_disk(tmp_path / "saved", num_shards=2)
    by_object, by_parquet = image_source(data), image_source(tmp_path / "x.parquet")
    same(by_object, by_parquet)
    same(image_source(tmp_path / "saved"), by_parquet)
    same(pickle.loads(pickle.dumps(by_object)), by_parquet)
    same(pickle.loads(pickle.dumps(image_source(tmp_path / "saved"))), by_parquet)
    assert list(by_object.classes) == ["cat", "dog"]
    np.testing.assert_array_equal(np.asarray(by_object.image(2)), make_pictures(4)[2])
    if names is None:
        assert list(by_object.ids) == list(image_source(make_pictures(4)).ids)


def test_saved_files_need_no_library(tmp_path: Path, make_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(make_pictures(3)).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    source = image_source(tmp_path / "saved")
    assert (len(source), list(source.classes)) == (3, ["cat", "dog"])
    np.testing.assert_array_equal(np.asarray(source.image(2)), make_pictures(3)[2])


def test_rows_that_were_chosen_and_formats_that_change_nothing(make_pictures: Any) -> None:
    stack = make_pictures(6)
    data = loaded(stack, [f"{i}.png" for i in range(6)])
    part = data.select([4, 1, 5])
    source = image_source(part.with_format("numpy"))
    assert list(source.ids) == ["4.png", "1.png", "5.png"]
    assert list(source.labels or ()) == [0, 1, 1]
    np.testing.assert_array_equal(np.asarray(source.image(0)), stack[4])
    turned = part.with_transform(lambda batch: {"img": [one.rotate(90) for one in batch["img"]]})
    same(image_source(turned), source)


def test_splits(tmp_path: Path, make_pictures: Any) -> None:
    both = datasets.DatasetDict(
        {"train": loaded(make_pictures(4)), "test": loaded(make_pictures(2, seed=1)), "odd": loaded(make_pictures(1))}
    )
    both.save_to_disk(tmp_path / "saved")
    for data in (both, tmp_path / "saved"):
        with pytest.warns(UserWarning, match="train is taken"):
            assert len(image_source(data)) == 4
        assert list(image_source(data, split="test").ids) == list(image_source(make_pictures(2, seed=1)).ids)
        assert len(image_source(data, split="odd")) == 1
        with pytest.raises(EmbeddingsError, match="no split 'val'"):
            image_source(data, split="val")
    with pytest.raises(EmbeddingsError, match="several splits"):
        image_source(datasets.DatasetDict({"a": both["test"], "b": both["odd"]}))
    with pytest.raises(EmbeddingsError, match="a split is part of"):
        image_source(both["train"], split="train")


def test_an_image_folder_that_the_library_has_read(tmp_path: Path, make_folder: Any) -> None:
    make_folder(tmp_path / "d" / "train", {"cat": 3, "dog": 2})
    data = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))
    folder = image_source(tmp_path / "d" / "train")
    same(image_source(data["train"]), folder)
    cats = data["train"].filter(lambda label: label == 0, input_columns="label")
    assert list(image_source(cats).ids) == [one for one in folder.ids if one.startswith("cat/")]
    # The cache itself holds where the files are, and, after a filter, others of its own.
    home = next((tmp_path / "cache").rglob("dataset_info.json")).parent
    same(image_source(home), folder)
    (tmp_path / "d" / "train" / "dog" / "001.png").unlink()
    with pytest.raises(EmbeddingsError, match="holds no image"):
        image_source(data["train"]).raw(4)


def test_the_cache_of_parquet_files(tmp_path: Path, make_pictures: Any) -> None:
    loaded(make_pictures(4)).to_parquet(tmp_path / "d" / "train-0.parquet")
    loaded(make_pictures(2, seed=1)).to_parquet(tmp_path / "d" / "test-0.parquet")
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "d", tmp_path / name)
        datasets.load_dataset("parquet", data_dir=str(tmp_path / name), cache_dir=str(tmp_path / "cache"))
    homes = sorted(one.parent for one in (tmp_path / "cache").rglob("dataset_info.json"))
    assert len(homes) == 2
    same(image_source(homes[0], split="train"), image_source(tmp_path / "d" / "train-0.parquet"))
    same(image_source(homes[1], split="test"), image_source(tmp_path / "d" / "test-0.parquet"))
    with pytest.raises(EmbeddingsError, match="several data sets"):
        image_source(tmp_path / "cache")


def test_what_is_refused(tmp_path: Path, make_pictures: Any) -> None:
    with pytest.raises(EmbeddingsError, match="streamed data set"):
        image_source(loaded(make_pictures(2)).to_iterable_dataset())
    with pytest.raises(EmbeddingsError, match="no column of images"):
        image_source(datasets.Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(EmbeddingsError, match="no rows"):
        image_source(loaded(make_pictures(1)).select([]))
    loaded(make_pictures(2)).save_to_disk(tmp_path / "saved")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:200])
    with pytest.raises(EmbeddingsError, match="can't be opened as an Arrow stream"):
        image_source(tmp_path / "saved")
    arrow.rename(tmp_path / "saved" / "other.arrow")
    with pytest.raises(EmbeddingsError, match=r"not what `save_to_disk` writes"):
        image_source(tmp_path / "saved")


def test_missing_labels(make_pictures: Any) -> None:
    rows = [{"bytes": png(one), "path": None} for one in make_pictures(2)]
    data = datasets.Dataset.from_dict({"img": rows, "label": [1, None]}).cast_column("img", datasets.Image())
    source = image_source(data)
    assert len(source.ids) == 2
    with pytest.raises(EmbeddingsError, match=r"1 images of .* have no label"):
        _ = source.labels
    assert image_source(data.remove_columns("label")).labels is None
