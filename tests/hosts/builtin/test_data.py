"""Folders, parquet files and CIFAR: order, labels, items, and how their samples are named."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rela_zoo.data import UndecodableImageError, image_source
from rela_zoo.data.datasets import DataProblem, open_dataset
from rela_zoo.hosts.builtin._setup import train_loader, val_loader
from rela_zoo.hosts.builtin.config import resolve_config
from rela_zoo.hosts.builtin.train import train


def section(path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "custom",
        "train_path": path,
        "val_path": path,
        "format": "image_folder",
        "no_labels": False,
        **changes,
    }


def write_parquet(path: Path, count: int, label: str = "label") -> list[np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = [np.random.default_rng(i).integers(0, 255, (8, 8, 3)).astype(np.uint8) for i in range(count)]
    encoded = []
    for one in pixels:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "png")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"img": encoded, label: [i % 3 for i in range(count)]}), path)
    return pixels


def test_class_folders(folders: Path) -> None:
    data = open_dataset(section(folders / "train"), "train")
    assert len(data) == 24
    assert data.classes == ["apple", "bee", "cat"]
    index, image, target = data[9]
    assert (index, target, image.size, image.mode) == (9, 1, (24, 24), "RGB")
    ids = image_source(data).ids
    assert list(ids) == list(image_source(folders / "train").ids)
    assert ids[9] == "bee/01.png"
    data.transform = lambda image: image.size
    assert data[9] == (9, (24, 24), 1)
    data.indexed = False
    assert data[9] == ((24, 24), 1)


def test_flat_folder(folders: Path) -> None:
    data = open_dataset(section(folders / "train", no_labels=True), "train")
    assert len(data) == 24
    assert data[0][2] == -1
    assert image_source(data).ids[8] == "bee/00.png"


@pytest.mark.parametrize("label", ["label", "fine_label"])
def test_parquet(tmp_path: Path, label: str) -> None:
    pixels = write_parquet(tmp_path / "train-00000.parquet", 7, label)
    write_parquet(tmp_path / "test-00000.parquet", 4, label)
    data = open_dataset(section(tmp_path, dataset="cifar10"), "train")
    assert len(data) == 7
    assert data.classes == ["0", "1", "2"]
    index, image, target = pickle.loads(pickle.dumps(data))[5]
    assert (index, target) == (5, 2)
    assert np.array_equal(np.asarray(image), pixels[5])
    assert list(image_source(data).ids) == list(image_source(tmp_path / "train-00000.parquet").ids)
    assert len(open_dataset(section(tmp_path, dataset="cifar10"), "val")) == 4
    assert open_dataset(section(tmp_path / "train-00000.parquet", no_labels=True), "train")[5][2] == -1


def test_cifar_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Stored:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (root, download) == (str(tmp_path), False)
            self.data = np.arange(4 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 32, 32, 3)
            self.targets, self.classes = [3, 1, 2, 0], ["a", "b", "c", "d"]

    monkeypatch.setattr(datasets, "CIFAR10", Stored)
    (tmp_path / "cifar-10-batches-py").mkdir()
    data = open_dataset(section(tmp_path, dataset="cifar10"), "train")
    index, image, target = data[1]
    assert (index, image.size, target, len(data)) == (1, (32, 32), 1, 4)
    assert image_source(data).ids[2].startswith("2:")


def test_missing_data_is_explained(tmp_path: Path, folders: Path) -> None:
    (tmp_path / "full").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "full" / "x.png")
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "notes.txt").write_text("no image")
    cases = {
        "an empty class folder: 'hollow'": section(tmp_path),
        "without class folders in it": section(folders / "train" / "bee"),
        "an existing path": section(tmp_path / "nowhere"),
        "expected cifar10 as torchvision stores it": section(tmp_path, dataset="cifar10"),
        "expected parquet files": section(tmp_path, format="parquet"),
        "expected images": section(tmp_path / "hollow", no_labels=True),
    }
    for message, data in cases.items():
        with pytest.raises(DataProblem, match=message) as caught:
            open_dataset(data, "train")
        assert caught.value.problem.key == "data.train_path"
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataProblem, match=r"x\.parquet"):
        open_dataset(section(tmp_path / "x.parquet"), "val")


def views(config: dict[str, Any], workers: int, epoch: int, processes: int = 1) -> dict[int, torch.Tensor]:
    config["data"]["num_workers"] = workers
    whole = resolve_config(config, 3)
    seen = {}
    for rank in range(processes):
        loader = train_loader(whole, open_dataset(whole.data, "train"), processes)
        loader.sampler.rank = rank
        loader.sampler.set_epoch(epoch)
        torch.manual_seed(rank + 10 * workers)
        for indices, both, _ in loader:
            assert not set(indices.tolist()) & set(seen)
            seen.update({int(i): torch.stack(pair) for i, *pair in zip(indices, *both, strict=True)})
    return seen


def test_views_depend_on_seed_epoch_and_sample_alone(config: dict[str, Any]) -> None:
    first = views(config, workers=0, epoch=1)
    assert sorted(first) == list(range(24))
    for other in (views(config, workers=2, epoch=1), views(config, workers=0, epoch=1, processes=3)):
        assert sorted(other) == sorted(first)
        assert all(torch.equal(first[i], other[i]) for i in first)
    later = views(config, workers=0, epoch=2)
    assert not any(torch.equal(first[i], later[i]) for i in first)
    config["seed"] = 4
    assert not any(torch.equal(first[i], one) for i, one in views(config, workers=0, epoch=1).items())


def test_validation_images_and_targets(config: dict[str, Any], folders: Path) -> None:
    config["data"]["val_path"] = str(folders / "val")
    whole = resolve_config(config, 3)
    images, targets = next(iter(val_loader(whole, open_dataset(whole.data, "val"))))
    assert images.shape == (8, 3, 16, 16)
    assert targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert val_loader(whole, None) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_without_a_traceback(
    config: dict[str, Any], folders: Path, tmp_path: Path, workers: int
) -> None:
    shutil.copytree(folders / "train", tmp_path / "data")
    whole = (tmp_path / "data" / "bee" / "03.png").read_bytes()
    (tmp_path / "data" / "bee" / "03.png").write_bytes(whole[: len(whole) // 2])
    config["data"].update(train_path=str(tmp_path / "data"), num_workers=workers)
    with pytest.raises(UndecodableImageError) as caught:
        train(config)
    assert str(caught.value).startswith("the image bee/03.png can't be decoded\n  expected: ")
    assert "fix: " in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_loader_yields_the_contract(config: dict[str, Any]) -> None:
    whole = resolve_config(config, 3)
    loader = train_loader(whole, open_dataset(whole.data, "train"), 1)
    assert isinstance(loader, DataLoader)
    indices, both, targets = next(iter(loader))
    assert [x.shape for x in both] == [(8, 3, 16, 16)] * 2
    assert targets.tolist() == [int(i) // 8 for i in indices]
