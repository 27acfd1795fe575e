"""WebDataset tars: keys are ids, images are read from where they lie, and what is no such tar is refused."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rela_zoo.data import UndecodableImageError, image_source
from rela_zoo.errors import EmbeddingsError


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(stack: Any, first: int = 0, labels: bool = True) -> list[tuple[str, bytes]]:
    found = []
    for i, pixels in enumerate(stack, first):
        found.append((f"{i:04d}.png", png(pixels)))
        found += [(f"{i:04d}.cls", str(i % 3).encode()), (f"{i:04d}.json", b"{}")] if labels else []
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_keys_pixels_and_labels(tmp_path: Path, make_pictures: Any) -> None:
    stack = make_pictures(7)
    write_tar(tmp_path / "d" / "0001.tar", samples(stack[4:], 4))
    write_tar(tmp_path / "d" / "0000.tar", samples(stack[:4]))
    source = image_source(tmp_path / "d")
    assert list(source.ids) == [f"{i:04d}" for i in range(7)]
    assert list(source.labels or ()) == [i % 3 for i in range(7)]
    assert list(source.classes) == ["0", "1", "2"]
    for i in (6, 0, 3, 5):  # in any order, from either tar
        np.testing.assert_array_equal(np.asarray(source.image(i)), stack[i])
    copy = pickle.loads(pickle.dumps(source))
    assert copy.raw(5) == source.raw(5) == png(stack[5])
    assert source.probe() == copy.probe()
    assert not list((tmp_path / "d").glob("*.png")), "nothing is extracted"


def test_patterns_name_the_same_tars(tmp_path: Path, make_pictures: Any) -> None:
    stack = make_pictures(6)
    for number in range(3):
        write_tar(tmp_path / f"x-{number:03d}.tar", samples(stack[2 * number : 2 * number + 2], 2 * number))
    whole = image_source(tmp_path)
    for pattern in ("x-*.tar", "x-{000..002}.tar", "x-{000,001,002}.tar", "x-00[0-2].tar"):
        assert list(image_source(tmp_path / pattern).ids) == list(whole.ids)
    assert list(image_source(str(tmp_path / "x-{001..002}.tar")).ids) == ["0002", "0003", "0004", "0005"]
    with pytest.raises(EmbeddingsError, match=r"1 of the files .* not there.*\n?(.|\n)*x-003\.tar"):
        image_source(tmp_path / "x-{000..003}.tar")
    with pytest.raises(EmbeddingsError, match="nothing at"):
        image_source(tmp_path / "y-{000..003}.tar")


def test_the_index_is_read_once_and_follows_the_file(
    tmp_path: Path, home: Path, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_pictures(5)
    path = write_tar(tmp_path / "a.tar", samples(stack[:3]))
    first = image_source(path)
    assert len(list((home / "artefacts" / "tars").glob("*.npz"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", lambda *args, **kwargs: pytest.fail("read again"))
        again = image_source(path)
    assert (list(again.ids), list(again.labels or ())) == (list(first.ids), list(first.labels or ()))
    assert again.raw(2) == png(stack[2])
    write_tar(path, samples(stack))
    assert len(image_source(path)) == 5
    for damage in (lambda data: b"PK damaged", lambda data: data[:-30], lambda data: data[:200] + b"x" + data[201:]):
        for note in (home / "artefacts" / "tars").glob("*.npz"):
            note.write_bytes(damage(note.read_bytes()))
        assert list(image_source(path).ids) == [f"{i:04d}" for i in range(5)]


def test_keys_with_folders_dots_and_companions(tmp_path: Path, make_pictures: Any) -> None:
    one, two = make_pictures(2)
    members = [("./cat/0.JPG.txt", b"x"), ("./cat/1.PNG", png(one)), ("dog/1.left.png", png(two)), ("._x.png", b"mac")]
    source = image_source(write_tar(tmp_path / "a.tar", members))
    assert list(source.ids) == ["cat/1", "dog/1"]
    assert [(left.what, left.count, left.example) for left in source.left_out] == [
        ("samples without an image", 1, "cat/0")
    ]
    assert source.labels is None
    np.testing.assert_array_equal(np.asarray(source.image(1)), two)


def test_missing_labels(tmp_path: Path, make_pictures: Any) -> None:
    members = [one for one in samples(make_pictures(4)) if one[0] != "0002.cls"]
    assert list(image_source(write_tar(tmp_path / "some.tar", members)).labels or ()) == [0, 1, -1, 0]
    assert image_source(write_tar(tmp_path / "none.tar", samples(make_pictures(2), labels=False))).labels is None
    for text in (b"cat", b"-1", b"", b"9" * 40):
        with pytest.raises(EmbeddingsError, match=r"0000\.cls of .* is no label"):
            image_source(write_tar(tmp_path / "words.tar", [("0000.cls", text), ("0000.png", b"")]))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"1"), ("b.png", b"2"), ("a.png", b"3")], "has 'a' twice"),
        ([("a.png", b"1"), ("a.png", b"2")], "has 'a.png' twice"),
        ([("a.png", b"1"), ("a.cls", b"1"), ("a.jpg", b"3")], "'a' of .* has several images"),
        ([("a.png", b"1"), ("a.seg.png", b"3")], "'a' of .* has several images"),
        ([("a.txt", b"1")], r"no images in(.|\n)*1 samples without one, such as 'a'"),
        ([], "no images in"),
    ],
)
def test_what_is_ambiguous_or_empty_is_refused(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(EmbeddingsError, match=message) as caught:
        image_source(path)
    assert caught.value.fix


def test_one_key_in_two_tars(tmp_path: Path, make_pictures: Any) -> None:
    for name in ("0.tar", "1.tar"):
        write_tar(tmp_path / name, samples(make_pictures(1)))
    with pytest.raises(EmbeddingsError, match=r"1 samples whose id another sample has(.|\n)*'0000'"):
        image_source(tmp_path)


def test_damaged_tars(tmp_path: Path, make_pictures: Any) -> None:
    whole = write_tar(tmp_path / "a.tar", samples(make_pictures(3))).read_bytes()
    bad = tmp_path / "bad.tar"
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for kept in (*range(0, end, 128), end):  # anywhere before the mark of the end, at the borders of files too
        bad.write_bytes(whole[:kept])
        with pytest.raises(EmbeddingsError, match="damaged or cut short"):
            image_source(bad)
    bad.write_bytes(whole[: end + 512])  # one block of zeros does
    assert len(image_source(bad)) == 3
    second = whole.index(b"0001.png")
    bad.write_bytes(whole[:second] + b"\xff" * 40 + whole[second + 40 :])
    with pytest.raises(EmbeddingsError, match=f"damaged or cut short(.|\n)*neither a header nor .* at byte {second:,}"):
        image_source(bad)
    bad.write_bytes(gzip.compress(whole))
    with pytest.raises(EmbeddingsError, match=r"compressed(.|\n)*gzip"):
        image_source(bad)
    bad.write_bytes(b"no tar at all " * 100)
    with pytest.raises(EmbeddingsError, match="damaged or cut short"):
        image_source(bad)


def test_a_tar_cut_short_behind_our_back(tmp_path: Path, make_pictures: Any) -> None:
    path = write_tar(tmp_path / "a.tar", samples(make_pictures(3)))
    source = image_source(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(EmbeddingsError, match=r"damaged or cut short(.|\n)*of the \d+ bytes of '0002'"):
        source.raw(2)
    path.unlink()
    with pytest.raises(EmbeddingsError, match="can't be read"):
        source.raw(0)


def test_an_image_that_can_not_be_decoded_is_named(tmp_path: Path, make_pictures: Any) -> None:
    path = write_tar(
        tmp_path / "a.tar", [("x.png", png(make_pictures(1)[0])[:60]), ("y.png", png(make_pictures(1)[0]))]
    )
    source = image_source(path)
    with pytest.raises(UndecodableImageError, match="the image x can't be decoded"):
        source.image(0)
    assert source.image(1).size == (8, 8)


def test_splits_of_tars(tmp_path: Path, make_pictures: Any) -> None:
    stack = make_pictures(5)
    write_tar(tmp_path / "toy-train-0000.tar", samples(stack[:3]))
    write_tar(tmp_path / "toy-val-0000.tar", samples(stack[3:], 3))
    with pytest.warns(UserWarning, match=r"train is taken: 3 images; left out: validation \(files\) 1"):
        assert len(image_source(tmp_path)) == 3
    assert list(image_source(tmp_path, split="val").ids) == ["0003", "0004"]
    with pytest.raises(EmbeddingsError, match="no split 'test'"):
        image_source(tmp_path, split="test")
