"""Images in h5 files: same ids and pictures as the folder they were made from."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from rela_zoo.data import image_source
from rela_zoo.errors import EmbeddingsError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                tmp_path / "images" / name / f"{i}.png"
            )
    return tmp_path / "images"


@pytest.fixture
def file(folder, tmp_path):
    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as store:
        for image in sorted(folder.rglob("*.png")):
            store.require_group(image.parent.name)[image.name] = np.frombuffer(image.read_bytes(), dtype=np.uint8)
    return path


class _H5Dataset:
    """As solo-learn's, of which two attributes are read."""

    def __init__(self, path, data):
        self.h5_path, self._data = str(path), data


def test_a_file_gives_the_ids_pictures_and_probe_of_its_folder(folder, file):
    ours, theirs = image_source(file), image_source(folder)
    assert list(ours.ids) == list(theirs.ids)
    assert ours.probe() == theirs.probe()
    for i in range(len(theirs)):
        assert np.array_equal(np.asarray(ours.image(i)), np.asarray(theirs.image(i)))


def test_a_data_set_object_keeps_its_own_order_and_choice(file):
    source = image_source(_H5Dataset(file, [("b", "2.png", 1), ("a", "0.png", 0)]))
    assert list(source.ids) == ["b/2.png", "a/0.png"]
    assert np.array_equal(np.asarray(source.image(1)), np.asarray(image_source(file).image(0)))


def test_an_open_source_goes_to_a_worker(file):
    source = image_source(file)
    source.raw(0)
    assert pickle.loads(pickle.dumps(source)).raw(0) == source.raw(0)


def test_a_stale_list_is_named(file):
    with pytest.raises(EmbeddingsError, match=r"a/9\.png"):
        image_source(_H5Dataset(file, [("a", "9.png", 0)])).raw(0)
