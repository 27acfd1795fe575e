"""Map-style data sets, several together, `.npy` files; splits in the names of files; the same rows from every form."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from rela_zoo.data import image_source
from rela_zoo.errors import EmbeddingsError

from .test_sources import write_parquet


class Items(Dataset):
    """Whatever `make` makes of each picture."""

    def __init__(self, stack: np.ndarray, make: Any) -> None:
        self.stack, self.make = stack, make

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.stack[index], index)


FORMS = {
    "PIL and label": lambda pixels, i: (Image.fromarray(pixels), i % 2),
    "PIL alone": lambda pixels, i: Image.fromarray(pixels),
    "array": lambda pixels, i: (pixels, np.int64(i % 2), "more"),
    "tensor": lambda pixels, i: [torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor(i % 2)],
    "mapping": lambda pixels, i: {"label": i % 2, "image": Image.fromarray(pixels)},
}


@pytest.mark.parametrize("form", FORMS)
def test_items_of_any_form_have_the_ids_of_an_array(make_pictures: Any, form: str) -> None:
    stack = make_pictures(5)
    source = image_source(Items(stack, FORMS[form]))
    assert list(source.ids) == list(image_source(stack).ids)
    assert source.raw(3) == stack[3].tobytes()
    np.testing.assert_array_equal(np.asarray(source.image(3)), stack[3])
    assert source.labels == (None if form == "PIL alone" else [0, 1, 0, 1, 0])
    part = image_source(Subset(Items(stack, FORMS[form]), [4, 2]))
    assert list(part.ids) == [source.ids[4], source.ids[2]]
    assert image_source([Image.fromarray(one) for one in stack]).probe() == source.probe()


def test_names_of_classes_and_some_labels(make_pictures: Any) -> None:
    data = Items(make_pictures(3), FORMS["array"])
    data.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    assert list(image_source(data).classes) == ["cat", "dog"]
    some = Items(make_pictures(3), lambda pixels, i: (pixels, i if i else None))
    assert image_source(some).labels is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pixels, i: (torch.from_numpy(pixels) / 255, 0), "no image(.|\n)*torch.float32|no image(.|\n)*float32"),
        (lambda pixels, i: "cat.png", r"no image(.|\n)*str"),
        (lambda pixels, i: {"text": "x"}, r"no image(.|\n)*NoneType"),
        (lambda pixels, i: np.random.default_rng().integers(0, 256, (8, 8, 3), np.uint8), "another image each time"),
    ],
)
def test_items_that_are_no_lasting_images(make_pictures: Any, make: Any, message: str) -> None:
    with pytest.raises(EmbeddingsError, match=message) as caught:
        image_source(Items(make_pictures(2), make))
    assert "transform" in str(caught.value.fix)


def test_unknown_forms_say_what_is_accepted(tmp_path: Path) -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(())

    (tmp_path / "x.zip").write_bytes(b"PK")
    for data in (Stream(), {"a": 1}, 3, tmp_path / "x.zip"):
        with pytest.raises(EmbeddingsError) as caught:
            image_source(data)
        for form in ("image folder", "parquet", "WebDataset tar", ".npy", "hf://datasets/", "ConcatDataset"):
            assert form in str(caught.value)


class TestConcat:
    def test_one_after_the_other(self, tmp_path: Path, make_pictures: Any, make_folder: Any) -> None:
        from torchvision.datasets import ImageFolder

        make_folder(tmp_path, {"cat": 2, "dog": 1})
        stack = make_pictures(3, seed=7)
        whole = image_source(ConcatDataset([ImageFolder(tmp_path), Items(stack, FORMS["array"])]))
        folder, items = image_source(tmp_path), image_source(stack)
        assert list(whole.ids) == [*folder.ids, *items.ids]
        assert (list(whole.labels or ()), list(whole.classes)) == ([0, 0, 1, 0, 1, 0], ["cat", "dog"])
        assert whole.raw(1) == folder.raw(1)
        np.testing.assert_array_equal(np.asarray(whole.image(4)), stack[1])
        np.testing.assert_array_equal(np.asarray(whole.image_of(whole.raw(2), 2)), np.asarray(folder.image(2)))
        stamps = whole.stamps()
        assert stamps is not None
        assert (len(stamps.values), stamps.one_each) == (3, False)
        assert image_source(ConcatDataset([ImageFolder(tmp_path)])).stamps().one_each  # type: ignore[union-attr]

    def test_what_can_not_be_told_apart(self, tmp_path: Path, make_folder: Any) -> None:
        from torchvision.datasets import ImageFolder

        make_folder(tmp_path / "a", {"cat": 1})
        make_folder(tmp_path / "b", {"cat": 1}, seed=1)
        with pytest.raises(EmbeddingsError, match=r"cat/000\.png"):
            _ = image_source(ConcatDataset([ImageFolder(tmp_path / "a"), ImageFolder(tmp_path / "b")])).ids
        make_folder(tmp_path / "c", {"dog": 1}, seed=2)
        mixed = image_source(ConcatDataset([ImageFolder(tmp_path / "a"), ImageFolder(tmp_path / "c")]))
        assert len(mixed.ids) == 2
        with pytest.raises(EmbeddingsError, match="different classes"):
            _ = mixed.labels


class TestNpy:
    def test_ids_are_those_of_the_array(self, tmp_path: Path, make_pictures: Any) -> None:
        stack = make_pictures(4)
        np.save(tmp_path / "x.npy", stack)
        source = image_source(tmp_path / "x.npy")
        assert list(source.ids) == list(image_source(stack).ids)
        copied = pickle.dumps(source)
        assert len(copied) < stack.nbytes
        np.testing.assert_array_equal(np.asarray(pickle.loads(copied).image(3)), stack[3])
        assert source.labels is None

    @pytest.mark.parametrize("ending", [".labels.npy", "_labels.npy"])
    def test_labels(self, tmp_path: Path, make_pictures: Any, ending: str) -> None:
        np.save(tmp_path / "x.npy", make_pictures(3))
        np.save(tmp_path / f"x{ending}", np.array([2, 0, -1]))
        source = image_source(tmp_path / "x.npy")
        assert (source.labels, list(source.classes)) == ([2, 0, -1], ["0", "1", "2"])
        for wrong in (np.array([1, 2]), np.array([0.5, 1, 2]), np.zeros((3, 1), int)):
            np.save(tmp_path / f"x{ending}", wrong)
            with pytest.raises(EmbeddingsError, match="does not hold the labels"):
                image_source(tmp_path / "x.npy")

    def test_what_is_refused(self, tmp_path: Path, make_pictures: Any) -> None:
        path = tmp_path / "x.npy"
        np.save(path, make_pictures(2).astype(np.float32))
        with pytest.raises(EmbeddingsError, match="not a stack of images"):
            image_source(path)
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(EmbeddingsError, match="can't be opened as an array"):
            image_source(path)
        np.save(path, make_pictures(2))
        path.write_bytes(path.read_bytes().replace(b"), }", b"(, {"))
        with pytest.raises(EmbeddingsError, match="can't be opened as an array"):
            image_source(path)
        np.save(path, make_pictures(2))
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(EmbeddingsError, match="can't be opened as an array"):
            image_source(path)


@pytest.mark.parametrize("train", ["toy-train.parquet", "toy_training_0.parquet", "Toy.Train.parquet"])
def test_parquet_files_named_by_split_are_never_mixed(tmp_path: Path, make_pictures: Any, train: str) -> None:
    write_parquet(tmp_path / train, make_pictures(3))
    write_parquet(tmp_path / "toy-test.parquet", make_pictures(2, seed=1))
    with pytest.warns(UserWarning, match="train is taken: 3 images; left out: test 2"):
        assert len(image_source(tmp_path)) == 3
    assert len(image_source(tmp_path, split="test")) == 2
    (tmp_path / train).rename(tmp_path / "toy-extra.parquet")
    with pytest.raises(EmbeddingsError, match=r"several splits(.|\n)*extra, test(.|\n)*--split"):
        image_source(tmp_path)


@pytest.mark.parametrize("kind", ["tar", "parquet", "npy", "list", "datasets", "saved"])
def test_equal_pixels_and_ids_give_equal_embeddings(
    tmp_path: Path, make_pictures: Any, make_prior: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rela_zoo.embeddings import embed

    from .test_huggingface import loaded
    from .test_tars import png, write_tar

    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    stack = make_pictures(6)
    named = kind in ("tar", "parquet", "datasets", "saved")
    names = [f"{i:03d}.png" for i in range(6)]
    (tmp_path / "folder").mkdir()
    for name, pixels in zip(names, stack, strict=True):
        keys = name.removesuffix(".png") if kind == "tar" else name
        Image.fromarray(pixels).save(tmp_path / "folder" / f"{keys.removesuffix('.png')}.png")
    data: Any = tmp_path / f"x.{kind}"
    if kind == "tar":
        write_tar(data, [(name, png(one)) for name, one in zip(names, stack, strict=True)])
    elif kind == "parquet":
        write_parquet(data, stack, names)
    elif kind == "npy":
        np.save(data, stack)
    elif kind == "list":
        data = [Image.fromarray(one) for one in stack]
    else:
        data = loaded(stack, names)
        if kind == "saved":
            data.save_to_disk(tmp_path / "saved")
            data = tmp_path / "saved"
    reference = embed(make_prior(), tmp_path / "folder", tmp_path / "a", num_workers=0, progress=False)
    table = embed(make_prior(), data, tmp_path / "b", num_workers=2, progress=False)
    assert torch.equal(table.rows(range(6)), reference.rows(range(6)))
    if named:
        assert list(table.ids) == [one.removesuffix(".png") if kind == "tar" else one for one in reference.ids]
    if kind in ("parquet", "datasets", "saved"):
        assert table.digest == reference.digest
