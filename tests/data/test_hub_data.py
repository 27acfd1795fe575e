"""Data sets of the tests' own Hub by address: at one commit, only the split taken, with the ids of a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rela_zoo.data import image_source, is_there
from rela_zoo.data.datasets import open_dataset
from rela_zoo.errors import EmbeddingsError, HubError

from .test_sources import write_parquet
from .test_tars import samples, write_tar

REPO = "org/pictures"
ADDRESS = f"hf://datasets/{REPO}"


def files_below(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def same(a: Any, b: Any) -> None:
    assert list(a.ids) == list(b.ids)
    assert [a.raw(i) for i in range(len(a))] == [b.raw(i) for i in range(len(b))]
    assert list(a.labels or ()) == list(b.labels or ())


@pytest.fixture
def local(tmp_path: Path, make_pictures: Any) -> Path:
    """Parquet in the Hub's layout, with a banner for the card, as many repositories have."""
    folder = tmp_path / "local"
    for number in range(2):
        write_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet", make_pictures(4, seed=number))
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", make_pictures(3, seed=9))
    Image.new("RGB", (4, 4)).save(folder / "banner.png")
    (folder / "README.md").write_text("# x\n")
    return folder


@pytest.fixture
def commit(hub: Any, local: Path) -> str:
    return str(hub.store.add(REPO, files_below(local), kind="dataset"))


def test_parquet_of_the_split_that_is_taken(hub: Any, commit: str, local: Path, said: Any) -> None:
    address = f"{ADDRESS}@{commit}"
    with pytest.warns(UserWarning, match=r"train is taken: 8 images; left out: test \(files\) 1"):
        source = image_source(address)
    assert not hub.calls("test-00000-of-00001.parquet")
    assert not hub.calls("banner.png")
    same(source, image_source(local / "data", split="train"))
    same(image_source(address, split="test"), image_source(local / "data", split="test"))
    assert len(said) == 0
    with pytest.raises(EmbeddingsError, match="no split 'validation'"):
        image_source(address, split="validation")


def test_what_a_configuration_names(hub: Any, commit: str, local: Path) -> None:
    data = {
        "dataset": "custom",
        "train_path": ADDRESS,
        "val_path": ADDRESS,
        "format": "image_folder",
        "no_labels": False,
    }
    assert is_there(ADDRESS)
    assert [len(open_dataset(data, part)) for part in ("train", "val")] == [8, 3]


def test_a_name_without_a_commit_is_said_and_asked_once(hub: Any, commit: str, said: Any) -> None:
    image_source(ADDRESS, split="test")
    assert f"{ADDRESS} is {ADDRESS}@{commit} today" in str(said)
    image_source(f"{ADDRESS}@main", split="test")
    image_source(ADDRESS, split="test")
    assert len(hub.calls(f"/api/datasets/{REPO}$")) == 1


def test_offline_from_the_cache(hub: Any, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    first = image_source(ADDRESS, split="test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    for address in (ADDRESS, f"{ADDRESS}@{commit}"):
        same(image_source(address, split="test"), first)
    assert len(hub.requests) == before
    with pytest.raises(EmbeddingsError, match="no split 'train'"):  # it was never fetched
        image_source(ADDRESS, split="train")


def test_a_folder_a_file_and_a_pattern_of_it(hub: Any, commit: str, local: Path) -> None:
    whole = image_source(local / "data", split="train")
    for path in ("data/train-*.parquet", "data/train-0000{0..1}-of-00002.parquet"):
        same(image_source(f"{ADDRESS}@{commit}/{path}"), whole)
    path = "data/train-00001-of-00002.parquet"
    same(image_source(f"{ADDRESS}@{commit}/{path}"), image_source(local / path))
    same(image_source(f"{ADDRESS}@{commit}/data", split="test"), image_source(local / "data", split="test"))
    with pytest.raises(EmbeddingsError, match="holds no images"):
        image_source(f"{ADDRESS}@{commit}/nowhere")


def test_a_damaged_file_is_never_used(hub: Any, commit: str, quick: Any) -> None:
    hub.fail("/cdn/", flip=300)
    with pytest.raises(HubError, match="damaged or was replaced"):
        image_source(f"{ADDRESS}@{commit}", split="test")


def test_several_data_sets_in_one_repository(hub: Any, tmp_path: Path, make_pictures: Any) -> None:
    for number, name in enumerate(("cats", "dogs")):
        write_parquet(tmp_path / "two" / name / "train-0.parquet", make_pictures(2, seed=number))
    hub.store.add("org/two", files_below(tmp_path / "two"), kind="dataset")
    with pytest.raises(EmbeddingsError, match=r"several data sets(.|\n)*cats, dogs(.|\n)*/dogs"):
        image_source("hf://datasets/org/two")
    same(image_source("hf://datasets/org/two/cats"), image_source(tmp_path / "two" / "cats"))


def test_tars_and_pictures(hub: Any, tmp_path: Path, make_pictures: Any, make_folder: Any) -> None:
    write_tar(tmp_path / "tars" / "toy-train-0.tar", samples(make_pictures(3)))
    write_tar(tmp_path / "tars" / "toy-test-0.tar", samples(make_pictures(2), 3))
    hub.store.add("org/tars", files_below(tmp_path / "tars"), kind="dataset")
    same(image_source("hf://datasets/org/tars", split="test"), image_source(tmp_path / "tars", split="test"))
    make_folder(tmp_path / "files" / "train", {"cat": 2, "dog": 3})
    make_folder(tmp_path / "files" / "test", {"cat": 1}, seed=1)
    hub.store.add("org/files", files_below(tmp_path / "files"), kind="dataset")
    for split in ("train", "test"):
        found = image_source("hf://datasets/org/files", split=split)
        same(found, image_source(tmp_path / "files" / split))
        assert list(found.classes) == list(image_source(tmp_path / "files" / split).classes)


@pytest.mark.parametrize("address", ["hf://datasets/name", "hf://datasets/org/../x", "hf://datasets/org/name@a@b"])
def test_what_is_no_address(hub: Any, address: str) -> None:
    with pytest.raises(EmbeddingsError, match="no data set on the Hub"):
        image_source(address)


def test_nothing_there(hub: Any) -> None:
    with pytest.raises(HubError, match="can't be seen which commit"):
        image_source("hf://datasets/org/nothing")


def test_a_mirror(hub: Any, commit: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(local, tmp_path / "mirror" / "datasets" / REPO / commit)
    monkeypatch.setenv("RELA_ZOO_MIRROR", str(tmp_path / "mirror"))
    before = len(hub.requests)
    same(image_source(f"{ADDRESS}@{commit}", split="test"), image_source(local / "data", split="test"))
    assert len(hub.requests) == before
