"""Every accepted form of data gives lasting ids and the right pixels."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rela_zoo.data import ImageSource, UndecodableImageError, image_source, pixel_digest
from rela_zoo.errors import EmbeddingsError


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, images: Any, paths: Any = None, column: str = "img", group: int = 3) -> Path:
    """Rows of {bytes, path} in the Hub's layout, a few a row group."""
    paths = [None] * len(images) if paths is None else paths
    encoded = [one if isinstance(one, bytes | None) else png(one) for one in images]
    rows = [{"bytes": one, "path": name} for one, name in zip(encoded, paths, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(rows, kind), "label": pa.array(range(len(rows)))})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def slow_ids(stack: np.ndarray) -> list[str]:
    """Index and BLAKE2b of the bytes of each RGB picture, byte by byte."""
    found = []
    for i, one in enumerate(stack):
        plain = bytes(int(value) for row in one for pixel in row for value in pixel)
        found.append(f"{i}:{hashlib.blake2b(plain, digest_size=8).hexdigest()}")
    return found


class TestFolder:
    def test_class_folders_agree_with_torchvision(self, tmp_path: Path, make_folder: Any) -> None:
        from torchvision.datasets import ImageFolder

        written = make_folder(tmp_path, {"dog": 3, "cat": 2, "cat/deep/er": 2})
        (tmp_path / "cat" / "notes.txt").write_text("no image")
        (tmp_path / "dog" / "000.png").rename(tmp_path / "dog" / "UPPER.PNG")
        written = sorted("dog/UPPER.PNG" if one == "dog/000.png" else one for one in written)
        by_path = image_source(tmp_path)
        by_object = image_source(ImageFolder(f"{tmp_path}/"))
        assert list(by_path.ids) == written
        assert sorted(by_object.ids) == written
        for i, one in enumerate(by_object.ids):
            expected = np.asarray(ImageFolder(tmp_path)[i][0])
            np.testing.assert_array_equal(np.asarray(by_object.image(i)), expected)
            np.testing.assert_array_equal(np.asarray(by_path.image(written.index(one))), expected)
        assert by_path.probe() == by_object.probe()
        assert len(by_path) == 7
        assert "7 images" in by_path.describe()

    def test_samples_are_read_at_call_time(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"a": 3, "b": 3})
        samples = [(str(tmp_path / "b" / "002.png"), 1), (str(tmp_path / "a" / "000.png"), 0)]
        data = SimpleNamespace(root=str(tmp_path), samples=samples, imgs=["stale"] * 6, targets=[0] * 6)
        assert list(image_source(data).ids) == ["b/002.png", "a/000.png"]

    def test_flat_folder_agrees_with_a_list_of_names(self, tmp_path: Path, make_folder: Any) -> None:
        written = make_folder(tmp_path, {"": 4})
        (tmp_path / "annotations").mkdir()  # a folder without images does not make class folders of it
        assert list(image_source(str(tmp_path)).ids) == written
        # solo-learn's data set without labels: the raw order of os.listdir
        listed = SimpleNamespace(root=tmp_path, images=written[::-1])
        source = image_source(listed)
        assert list(source.ids) == written[::-1]
        assert source.probe() == image_source(tmp_path).probe()
        np.testing.assert_array_equal(source.image(0), np.asarray(Image.open(tmp_path / written[-1])))

    def test_imagenet_style_split_folder(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path / "train", {"n01": 2})
        path = str(tmp_path / "train" / "n01" / "000.png")
        data = SimpleNamespace(root=str(tmp_path), split_folder=str(tmp_path / "train"), samples=[(path, 0)])
        assert list(image_source(data).ids) == ["n01/000.png"]

    def test_probe_tells_equal_names_apart(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path / "a", {"x": 20}, seed=1)
        make_folder(tmp_path / "b", {"x": 20}, seed=2)
        a, b = image_source(tmp_path / "a"), image_source(tmp_path / "b")
        assert a.ids == b.ids
        assert a.probe() != b.probe()
        assert len(a.probe()) == 64

    def test_empty_class_folder_is_named(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"cat": 1})
        (tmp_path / "dog").mkdir()
        (tmp_path / ".ipynb_checkpoints").mkdir()
        with pytest.raises(EmbeddingsError, match="an empty class folder: 'dog' in") as caught:
            image_source(tmp_path)
        assert "fix" in str(caught.value)

    def test_loose_images_beside_class_folders_are_left_out_aloud(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"cat": 2, "": 1})
        with pytest.warns(UserWarning, match=r"left out.*000\.png"):
            assert list(image_source(tmp_path).ids) == ["cat/000.png", "cat/001.png"]

    def test_a_folder_of_splits_is_suspicious(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"train/cat": 1, "val/cat": 1})
        with pytest.warns(UserWarning, match="splits"):
            assert len(image_source(tmp_path)) == 2

    def test_missing_and_empty(self, tmp_path: Path) -> None:
        with pytest.raises(EmbeddingsError, match="nothing at"):
            image_source(tmp_path / "no")
        with pytest.raises(EmbeddingsError, match="no images found"):
            image_source(tmp_path)
        (tmp_path / "cat").mkdir()
        with pytest.raises(EmbeddingsError, match=r"no images found(.|\n)*cat"):
            image_source(tmp_path)
        with pytest.raises(EmbeddingsError, match="lists no images"):
            image_source(SimpleNamespace(root=tmp_path, samples=[]))

    def test_sample_outside_the_root(self, tmp_path: Path) -> None:
        data = SimpleNamespace(root=str(tmp_path / "a"), samples=[(str(tmp_path / "b.png"), 0)])
        with pytest.raises(EmbeddingsError, match="outside its root"):
            image_source(data)

    def test_repeated_sample(self, tmp_path: Path) -> None:
        data = SimpleNamespace(root=str(tmp_path), samples=[(str(tmp_path / "b.png"), 0)] * 2)
        with pytest.raises(EmbeddingsError, match=r"b\.png"):
            image_source(data)

    def test_undecodable_and_unreadable_are_named(self, tmp_path: Path, make_folder: Any) -> None:
        make_folder(tmp_path, {"cat": 3})
        whole = (tmp_path / "cat" / "001.png").read_bytes()
        (tmp_path / "cat" / "001.png").write_bytes(whole[: len(whole) // 2])
        source = image_source(tmp_path)
        (tmp_path / "cat" / "002.png").unlink()
        with pytest.raises(UndecodableImageError, match=r"cat/001\.png"):
            source.image(1)
        with pytest.raises(EmbeddingsError, match=r"cat/002\.png can't be read") as caught:
            source.image(2)
        assert not isinstance(caught.value, UndecodableImageError)  # a lost file is not to be skipped in silence

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
    def test_every_mode_becomes_rgb(self, tmp_path: Path, mode: str) -> None:
        name = "x.jpg" if mode == "CMYK" else "x.png"
        Image.new(mode, (5, 4)).save(tmp_path / name)
        image = image_source(tmp_path).image(0)
        assert (image.mode, image.size) == ("RGB", (5, 4))


class TestArray:
    def test_layouts(self, make_pictures: Any) -> None:
        stack = make_pictures(5, size=4)
        last, first = image_source(stack), image_source(SimpleNamespace(data=stack.transpose(0, 3, 1, 2), labels=[0]))
        assert list(last.ids) == list(first.ids) == slow_ids(stack)
        np.testing.assert_array_equal(np.asarray(first.image(3)), stack[3])
        grey = stack[..., 0]
        for data in (grey, SimpleNamespace(data=torch.from_numpy(grey), targets=torch.zeros(5)), torch.tensor(grey)):
            source = image_source(data)
            assert list(source.ids) == slow_ids(np.stack([grey] * 3, -1))
            assert source.image(2).mode == "RGB"
            np.testing.assert_array_equal(np.asarray(source.image(2))[..., 1], grey[2])

    def test_subset_keeps_the_ids_of_the_whole(self, make_pictures: Any) -> None:
        stack = make_pictures(6, size=4)
        whole = SimpleNamespace(data=stack, targets=[0] * 6)
        part = image_source(torch.utils.data.Subset(whole, [4, 1]))  # type: ignore[arg-type]
        assert list(part.ids) == [slow_ids(stack)[4], slow_ids(stack)[1]]
        np.testing.assert_array_equal(np.asarray(part.image(0)), stack[4])
        assert part.raw(1) == stack[1].tobytes()

    @pytest.mark.parametrize(
        "wrong", [np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)]
    )
    def test_what_is_no_stack_of_images(self, wrong: np.ndarray) -> None:
        with pytest.raises(EmbeddingsError, match="not a stack of images"):
            image_source(wrong)

    def test_no_images(self) -> None:
        with pytest.raises(EmbeddingsError, match="no images"):
            image_source(np.zeros((0, 4, 4, 3), np.uint8))

    def test_unknown_form(self) -> None:
        with pytest.raises(EmbeddingsError, match="no known form"):
            image_source(object())

    def test_a_source_stays_what_it_is(self, make_pictures: Any) -> None:
        source = image_source(make_pictures(2))
        assert isinstance(source, ImageSource)
        assert image_source(source) is source


class TestParquet:
    def test_paths_are_ids_where_all_differ(self, tmp_path: Path, make_pictures: Any) -> None:
        stack = make_pictures(8, size=4)
        names = [f"cat/{i}.png" for i in range(8)]
        source = image_source(write_parquet(tmp_path / "train.parquet", stack, names))
        assert list(source.ids) == names
        for i in (7, 0, 3, 4, 2):
            np.testing.assert_array_equal(np.asarray(source.image(i)), stack[i])
        again = pickle.loads(pickle.dumps(source))
        assert again.probe() == source.probe()

    @pytest.mark.parametrize("paths", [None, ["same.png"] * 8, [*"abcdefg", None], [*"abcdefg", ""]])
    def test_digests_are_ids_otherwise(self, tmp_path: Path, make_pictures: Any, paths: Any) -> None:
        stack = make_pictures(8, size=4)
        source = image_source(write_parquet(tmp_path / "x.parquet", stack, paths, column="image"))
        assert list(source.ids) == slow_ids(stack) == list(image_source(stack).ids)

    def test_a_folder_of_files_is_one_list(self, tmp_path: Path, make_pictures: Any) -> None:
        stack = make_pictures(9, size=4)
        for number, part in enumerate((stack[:4], stack[4:])):
            write_parquet(tmp_path / "data" / f"train-{number:05d}-of-00002.parquet", part)
        for given in (tmp_path / "data", tmp_path, str(tmp_path / "data" / "train-*.parquet")):
            source = image_source(given)
            assert list(source.ids) == slow_ids(stack)
            np.testing.assert_array_equal(np.asarray(source.image(6)), stack[6])

    def test_rows_that_hold_no_picture(self, tmp_path: Path, make_pictures: Any) -> None:
        stack = make_pictures(3, size=4)
        source = image_source(write_parquet(tmp_path / "x.parquet", [stack[0], b"no picture", None], None))
        assert [one.split(":")[1] for one in source.ids] == [pixel_digest(stack[0]), "undecodable", "undecodable"]
        with pytest.raises(UndecodableImageError, match="1:undecodable"):
            source.image(1)
        with pytest.raises(UndecodableImageError, match=r"row 2 .* holds no image"):
            source.image(2)
        assert source.probe()

    def test_what_is_no_parquet_of_images(self, tmp_path: Path, make_pictures: Any) -> None:
        (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
        with pytest.raises(EmbeddingsError, match="can't be opened as parquet"):
            image_source(tmp_path / "x.parquet")
        pq.write_table(pa.table({"label": [1]}), tmp_path / "y.parquet")
        with pytest.raises(EmbeddingsError, match="no column of images") as caught:
            image_source(tmp_path / "y.parquet")
        assert "label: int64" in str(caught.value.got)
        write_parquet(tmp_path / "z.parquet", make_pictures(0))
        with pytest.raises(EmbeddingsError, match="no rows"):
            image_source(tmp_path / "z.parquet")
