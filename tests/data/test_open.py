"""What the opener takes, what it leaves out, and what it says about it."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rela_zoo.data import LeftOut, image_source
from rela_zoo.data.datasets import DataProblem, ImageDataset, open_dataset
from rela_zoo.errors import EmbeddingsError


def write_parquet(path: Path, images: np.ndarray, **columns: Any) -> None:
    rows = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(rows, kind), **columns}), path)


def section(path: Path, **changes: Any) -> dict[str, Any]:
    found = {"dataset": "custom", "train_path": path, "val_path": path, "format": "image_folder", "no_labels": True}
    return {**found, **changes}


class TestSplits:
    @pytest.fixture
    def folder(self, tmp_path: Path, make_pictures: Any) -> Path:
        for seed, (split, count) in enumerate([("train", 5), ("test", 3), ("validation", 2)]):
            write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", make_pictures(count, seed=seed))
        return tmp_path

    def test_train_is_taken_and_said(self, folder: Path) -> None:
        with pytest.warns(UserWarning, match="several splits, and train is taken: 5 images") as said:
            source = image_source(folder)
        assert len(said) == 1
        assert said[0].filename == __file__  # it points at whoever opened the data
        text = str(said[0].message)
        assert "left out: test 3, validation 2" in text
        assert str(folder / "data" / "test-00000-of-00001.parquet") in text
        assert "split=" in text
        assert source.left_out == (
            LeftOut("split test", 3, "data/test-00000-of-00001.parquet"),
            LeftOut("split validation", 2, "data/validation-00000-of-00001.parquet"),
        )
        assert list(source.ids) == list(image_source(folder / "data" / "train-00000-of-00001.parquet").ids)

    @pytest.mark.parametrize(
        ("split", "count"), [("train", 5), ("training", 5), ("test", 3), ("val", 2), ("valid", 2), ("validation", 2)]
    )
    def test_one_that_is_asked_for(self, folder: Path, split: str, count: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for place in (folder, str(folder / "data")):
                assert len(image_source(place, split=split)) == count

    @pytest.mark.parametrize("split", ["unlabeled", "holdout"])
    def test_one_that_is_not_there(self, folder: Path, split: str) -> None:
        with pytest.raises(EmbeddingsError, match=f"no split '{split}'(.|\n)*test, train, validation"):
            image_source(folder, split=split)

    def test_without_train_nothing_is_guessed(self, folder: Path) -> None:
        (folder / "data" / "train-00000-of-00001.parquet").unlink()
        with pytest.raises(EmbeddingsError, match=r"several splits(.|\n)*test, validation") as caught:
            image_source(folder)
        assert str(folder / "data" / "validation-00000-of-00001.parquet") in str(caught.value.fix)

    def test_a_pattern_in_the_warning_names_what_it_says(self, tmp_path: Path, make_pictures: Any) -> None:
        for seed, name in enumerate(["train-0", "test-0", "test-1"]):
            write_parquet(tmp_path / f"{name}.parquet", make_pictures(2, seed=seed))
        with pytest.warns(UserWarning, match="several splits") as said:
            image_source(tmp_path)
        pattern = str(said[0].message).split("another one: ")[1].split(" in place of")[0]
        assert len(image_source(pattern)) == 4

    @pytest.mark.parametrize(
        ("names", "train", "val"),
        [
            (["train", "test"], "train", "test"),
            (["train-0", "test-0", "validation-0"], "train-0", "validation-0"),
            (["training_1", "testing_1"], "training_1", "testing_1"),
            (["Train", "Test"], "Train", "Test"),
            (["train00", "val00"], "train00", "val00"),
            (["train", "rest"], "train", "rest"),
            (["images"], "images", "images"),
            (["test"], "test", "test"),
            (["train"], "train", "train"),
            (["a/train/0", "a/test/0"], "a/train/0", "a/test/0"),
            (["trainer", "train"], "train", "trainer"),
        ],
    )
    def test_what_training_and_validation_take(
        self, tmp_path: Path, make_pictures: Any, names: list[str], train: str, val: str
    ) -> None:
        for seed, name in enumerate(names):
            write_parquet(tmp_path / f"{name}.parquet", make_pictures(2, seed=seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # each of them asks for its own split: nothing to be said
            for part, name in (("train", train), ("val", val)):
                found = image_source(open_dataset(section(tmp_path), part)).ids
                assert list(found) == list(image_source(tmp_path / f"{name}.parquet").ids)

    def test_a_folder_of_split_folders(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 1})
        with pytest.warns(UserWarning, match=r"looks like a folder of splits \(train, val\)"):
            assert len(image_source(tmp_path)) == 5
        for split, name, count in (("train", "train", 3), ("val", "val", 2), ("validation", "val", 2)):
            source = image_source(tmp_path, split=split)
            assert list(source.ids) == list(image_source(tmp_path / name).ids)
            assert (len(source), list(source.classes)) == (count, ["a", "b"])
        with pytest.raises(EmbeddingsError, match=r"no split 'test'(.|\n)*train, val"):
            image_source(tmp_path, split="test")

    @pytest.mark.parametrize("name", ["toy-train.parquet", "train/0.parquet", "*-train.parquet"])
    def test_what_is_named_is_of_the_split_that_its_name_says(
        self, tmp_path: Path, make_pictures: Any, name: str
    ) -> None:
        write_parquet(tmp_path / "test" / name.replace("*", "toy"), make_pictures(2))  # what is further up says nothing
        for split in (None, "train", "training"):
            assert len(image_source(tmp_path / "test" / name, split=split)) == 2
        with pytest.raises(EmbeddingsError, match=r"no split 'test'(.|\n)*expected: one of train"):
            image_source(tmp_path / "test" / name, split="test")

    @pytest.mark.parametrize("name", ["x.parquet", "?.parquet", "x.npy"])
    def test_what_is_named_and_says_none(self, tmp_path: Path, make_pictures: Any, name: str) -> None:
        write_parquet(tmp_path / "x.parquet", make_pictures(2))
        np.save(tmp_path / "x.npy", make_pictures(2))
        assert len(image_source(tmp_path / name)) == 2
        with pytest.raises(EmbeddingsError, match=r"no split 'train'(.|\n)*no splits(.|\n)*leave the split out"):
            image_source(tmp_path / name, split="train")

    def test_of_a_pattern_the_files_of_the_split_are_taken(self, tmp_path: Path, make_pictures: Any) -> None:
        for seed, split in enumerate(["train", "test"]):
            write_parquet(tmp_path / f"toy-{split}.parquet", make_pictures(2, seed=seed))
        pattern = tmp_path / "toy-*.parquet"
        assert len(image_source(pattern)) == 4, "all that is named"
        found = image_source(pattern, split="test")
        assert list(found.ids) == list(image_source(tmp_path / "toy-test.parquet").ids)
        assert [(one.what, one.count) for one in found.left_out] == [("split train (files)", 1)]

    def test_other_data_has_none(self, tmp_path: Path, make_folder: Any, make_pictures: Any) -> None:
        make_folder(tmp_path, {"a": 2})
        with pytest.raises(EmbeddingsError, match="no split 'train'"):
            image_source(tmp_path, split="train")
        with pytest.raises(EmbeddingsError, match="a split is part of a path"):
            image_source(make_pictures(2), split="train")


class TestLeftOut:
    def test_endings_are_counted_and_said_once(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"a": 2, "b": 2})
        for name in ("a/x.gif", "a/y.JFIF", "b/x.gif", "b/z.avif", "b/z.jp2", "b/z.txt", ".hidden.gif"):
            (tmp_path / name).write_bytes(b"x")
        with pytest.warns(UserWarning, match="5 pictures in .* are left out") as said:
            source = image_source(tmp_path)
        assert len(said) == 1
        assert ".avif 1, .gif 2, .jfif 1, .jp2 1 (first: b/z.avif)" in str(said[0].message)
        assert {one.what: one.count for one in source.left_out} == {
            "ending in .avif": 1,
            "ending in .gif": 2,
            "ending in .jfif": 1,
            "ending in .jp2": 1,
        }
        assert pickle.loads(pickle.dumps(source)).left_out == source.left_out

    def test_nothing_but_them(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x.gif").write_bytes(b"x")
        with pytest.raises(EmbeddingsError, match=r"no images found(.|\n)*1 ending in \.gif(.|\n)*PNG or JPEG"):
            image_source(tmp_path)
        (tmp_path / "b").mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "b" / "x.png")
        with pytest.raises(EmbeddingsError, match=r"an empty class folder: 'a'(.|\n)*a/x\.gif"):
            image_source(tmp_path)

    def test_loose_images_links_and_parquet(self, tmp_path: Path, make_folder: Any, make_pictures: Any) -> None:
        make_folder(tmp_path, {"a": 2, "": 3})
        (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
        write_parquet(tmp_path / "a" / "meta" / "x.parquet", make_pictures(1))
        with pytest.warns(UserWarning, match="left out") as said:
            source = image_source(tmp_path)
        texts = [str(one.message) for one in said]
        assert len(texts) == 3
        assert any("3 images directly in" in text and "first: 000.png" in text for text in texts)
        assert any("1 links that lead nowhere are left out" in text and "a/gone.png" in text for text in texts)
        assert any("1 parquet files in" in text and "a/meta/x.parquet" in text for text in texts)
        assert sorted(one.count for one in source.left_out) == [1, 1, 3]

    def test_only_the_first_process_speaks(
        self, tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_folder(tmp_path, {"a": 2, "": 3})
        monkeypatch.setenv("RANK", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(image_source(tmp_path)) == 2

    def test_a_folder_that_cannot_be_listed(
        self, tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_folder(tmp_path, {"a": 2, "a/b": 1})
        scandir = os.scandir

        def refuse(folder: Any) -> Any:
            if str(folder).endswith("b"):
                raise PermissionError(13, "Permission denied")
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(EmbeddingsError, match=r"a/b can't be listed(.|\n)*Permission denied"):
            image_source(tmp_path)


class TestLabels:
    def test_of_objects(self, tmp_path: Path, make_folder: Any, make_pictures: Any) -> None:
        from torchvision.datasets import ImageFolder

        make_folder(tmp_path, {"a": 2, "b": 1})
        images = image_source(ImageFolder(tmp_path))
        assert (list(images.labels or ()), list(images.classes)) == ([0, 0, 1], ["a", "b"])
        stack = make_pictures(3)
        for labels in ([2, 0, 1], np.array([2, 0, 1]), torch.tensor([2, 0, 1])):
            source = image_source(SimpleNamespace(data=stack, targets=labels))
            assert (list(source.labels or ()), list(source.classes)) == ([2, 0, 1], ["0", "1", "2"])
        named = image_source(SimpleNamespace(data=stack, labels=[1, 0, 1], classes=["x", "y"]))
        assert list(named.classes) == ["x", "y"]
        part = image_source(torch.utils.data.Subset(SimpleNamespace(data=stack, targets=[2, 0, 1]), [2, 0]))  # type: ignore[arg-type]
        assert (list(part.labels or ()), len(part.classes)) == ([1, 2], 3)

    @pytest.mark.parametrize("labels", [[1], [[1], [2]], ["a", "b"], [0.5, 1.5], None])
    def test_what_are_none(self, make_pictures: Any, labels: Any) -> None:
        source = image_source(SimpleNamespace(data=make_pictures(2), targets=labels))
        assert source.labels is None
        assert list(source.classes) == []

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({}, "img: image in"),
            ({"label": pa.array(["a", "b"])}, "label: string"),
            ({"label": pa.array([1, None])}, "1 images of .* have no label"),
        ],
    )
    def test_a_parquet_file_without(self, tmp_path: Path, make_pictures: Any, columns: Any, message: str) -> None:
        write_parquet(tmp_path / "x.parquet", make_pictures(2), **columns)
        with pytest.raises(DataProblem, match=message) as caught:
            open_dataset(section(tmp_path, no_labels=False), "train")
        assert "no_labels=true" in caught.value.problem.fix
        assert len(open_dataset(section(tmp_path), "train")) == 2

    def test_a_data_set_over_a_source(self, make_pictures: Any) -> None:
        stack = make_pictures(3)
        source = image_source(SimpleNamespace(data=stack, targets=[1, 0, 1], classes=["x", "y"]))
        data = ImageDataset(source, transform=np.asarray)
        index, pixels, target = data[2]
        assert (index, target, data.classes) == (2, 1, ["x", "y"])
        np.testing.assert_array_equal(pixels, stack[2])
        assert image_source(data) is source
        part = image_source(torch.utils.data.Subset(data, [2, 1]))
        assert list(part.ids) == [source.ids[2], source.ids[1]]
        off = ImageDataset(source, labelled=False)
        assert (off[2][2], off.classes, len(off)) == (-1, ["unlabelled"], 3)
        with pytest.raises(EmbeddingsError, match="has no labels"):
            ImageDataset(image_source(stack))


class TestCifar:
    @pytest.fixture
    def stored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_pictures: Any) -> Path:
        from torchvision import datasets

        class Stored:
            def __init__(self, root: str, train: bool, download: bool) -> None:
                assert (root, download) == (str(tmp_path), False)
                if not (tmp_path / "cifar-10-batches-py").is_dir():
                    raise RuntimeError("Dataset not found or corrupted.")
                self.data = make_pictures(6 if train else 4, size=32, seed=int(train))
                self.targets, self.classes = [i % 2 for i in range(len(self.data))], ["cat", "dog"]

        monkeypatch.setattr(datasets, "CIFAR10", Stored)
        (tmp_path / "cifar-10-batches-py").mkdir()
        (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
        return tmp_path

    def test_one_opener_for_both_parts(self, stored: Path, make_pictures: Any) -> None:
        with pytest.warns(UserWarning, match="train is taken: 6 images; left out: test 10,000"):
            source = image_source(stored)
        assert list(source.ids) == list(image_source(make_pictures(6, size=32, seed=1)).ids)
        assert list(image_source(stored, split="test").ids) == list(image_source(make_pictures(4, size=32, seed=0)).ids)
        with pytest.raises(EmbeddingsError, match="no split 'val'"):
            image_source(stored, split="val")
        for dataset in ("cifar10", "custom"):
            for part, split in (("train", "train"), ("val", "test")):
                data = open_dataset(section(stored, dataset=dataset, no_labels=False), part)
                assert list(image_source(data).ids) == list(image_source(stored, split=split).ids)
                assert (data.classes, data[1][2]) == (["cat", "dog"], 1)

    def test_the_name_decides_where_both_forms_are(self, stored: Path, make_pictures: Any) -> None:
        write_parquet(stored / "data" / "train-0.parquet", make_pictures(2))
        assert len(open_dataset(section(stored, dataset="cifar10"), "train")) == 6
        write_parquet(stored / "train-0.parquet", make_pictures(3))
        assert len(open_dataset(section(stored, dataset="cifar10"), "train")) == 3

    def test_parquet_below_the_root_does_for_it(self, tmp_path: Path, make_pictures: Any) -> None:
        write_parquet(tmp_path / "data" / "train-0.parquet", make_pictures(2), label=pa.array([1, 0]))
        data = open_dataset(section(tmp_path, dataset="cifar10", format="parquet", no_labels=False), "train")
        assert [data.target(0), data.target(1)] == [1, 0]

    def test_images_do_not(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"a": 2, "b": 2})
        with pytest.raises(DataProblem, match="expected cifar100 as torchvision stores it"):
            open_dataset(section(tmp_path, dataset="cifar100"), "train")
        with pytest.raises(DataProblem, match=r"expected parquet files, got no parquet files in .*: images"):
            open_dataset(section(tmp_path, format="parquet"), "train")
