"""The data sets that the built-in host trains on: folders, parquet files, and CIFAR from disk.

Every item is (index, views, target); chance, order and stages are the business of `rela_zoo.selection.subset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from torch.utils.data import Dataset

from rela_zoo.data._parquet import ParquetSource
from rela_zoo.errors import EmbeddingsError, Problem
from rela_zoo.hosts.builtin.config import as_plain, normalisation

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class DataProblem(Exception):
    """The data are not as the configuration says; carries the problem, for the list of all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def _images_under(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


class _Indexed(Dataset):
    """Items (index, transform(image), target); `transform` is read afresh for every item."""

    transform: Callable[[Image.Image], Any] | None = None
    classes: list[str]

    def image(self, i: int) -> Image.Image:
        """The i-th image, RGB."""
        raise NotImplementedError

    def target(self, i: int) -> int:
        """Its label, or −1."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[int, Any, int]:
        image: Any = self.image(index)
        return index, image if self.transform is None else self.transform(image), self.target(index)


class ClassFolders(_Indexed):
    """A folder with one folder of images a class; classes and files in alphabetical order.

    Attributes:
        root: the folder.
        samples: (path, label) of every image.
        classes: their names.

    Raises:
        DataProblem: if there are no class folders, or any of them is empty.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
        if not folders:
            raise DataProblem(
                Problem(
                    key,
                    "a folder with one folder of images a class",
                    f"{root} without any folder in it",
                    "sort the images into class folders, or set data.no_labels=true for a flat folder",
                )
            )
        found = {folder.name: _images_under(folder) for folder in folders}
        empty = [name for name, images in found.items() if not images]
        if empty:
            named = ", ".join(repr(name) for name in empty[:5]) + (" …" if len(empty) > 5 else "")
            one = len(empty) == 1
            raise DataProblem(
                Problem(
                    key,
                    f"images ({' '.join(IMAGE_SUFFIXES)}) in every class folder",
                    f"{'an empty class folder' if one else f'{len(empty)} empty class folders'}: {named} in {root}",
                    f"put images into {'it' if one else 'them'}, or remove {'it' if one else 'them'}",
                )
            )
        self.classes = list(found)
        self.samples = [(str(image), label) for label, images in enumerate(found.values()) for image in images]

    def image(self, i: int) -> Image.Image:
        """The i-th image, RGB."""
        return _open(Path(self.samples[i][0]))

    def target(self, i: int) -> int:
        """Its class."""
        return self.samples[i][1]

    def __len__(self) -> int:
        return len(self.samples)


class FlatFolder(_Indexed):
    """A folder of images without labels, folders within it included, in alphabetical order.

    Attributes:
        root: the folder.
        images: names of the images, relative to it, with forward slashes.

    Raises:
        DataProblem: if there is no image.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self.images = [path.relative_to(root).as_posix() for path in _images_under(root)]
        self.classes = ["unlabelled"]
        if not self.images:
            raise DataProblem(
                Problem(key, f"images ({' '.join(IMAGE_SUFFIXES)})", f"none in {root}", "name a folder of images")
            )

    def image(self, i: int) -> Image.Image:
        """The i-th image, RGB."""
        return _open(self.root / self.images[i])

    def target(self, i: int) -> int:
        """No label: −1."""
        return -1

    def __len__(self) -> int:
        return len(self.images)


def parquet_files(path: Path) -> list[Path]:
    """The parquet files at a path: itself, or those in the folder, sorted by name; empty if it has none."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("*.parquet")) if path.is_dir() else []


class ParquetImages(ParquetSource, _Indexed):
    """Images in the Hub's parquet layout with a column of labels; rows are read as they are asked for.

    It is a source of images in its own right, so embeddings name its samples as those of the files.

    Attributes:
        classes: numbers up to the largest label.

    Raises:
        DataProblem: if the files are not parquet, or the columns are not these.
    """

    def __init__(self, files: list[Path], key: str, no_labels: bool = False) -> None:
        import pyarrow.parquet as pq

        try:
            super().__init__(files)
        except EmbeddingsError as error:
            fix = error.fix or "name files in the Hub's image layout"
            raise DataProblem(Problem(key, str(error.expected), f"{error.what}: {error.got}", fix)) from None
        self._labels: list[int] | None = None
        if not no_labels:
            names = pq.read_schema(files[0]).names
            label = next((name for name in ("label", "labels", "fine_label") if name in names), None)
            if label is None:
                fix = "rename the column of labels; data.no_labels=true does without"
                got = f"{', '.join(names)} in {files[0]}"
                raise DataProblem(Problem(key, "a column `label` or `fine_label`", got, fix))
            tables = [pq.read_table(file, columns=[label]) for file in files]
            self._labels = [int(one) for table in tables for one in table.column(label).to_pylist()]
        self.classes = ["unlabelled"] if self._labels is None else [str(i) for i in range(max(self._labels) + 1)]

    def target(self, i: int) -> int:
        """Its label, or −1."""
        return -1 if self._labels is None else self._labels[i]


class CifarImages(_Indexed):
    """CIFAR-10 or CIFAR-100 as torchvision stores it; nothing is downloaded.

    Attributes:
        data: (N, 32, 32, 3) uint8.
        targets: N labels.
    """

    def __init__(self, name: str, root: Path, train: bool, key: str) -> None:
        from torchvision import datasets

        try:
            base = getattr(datasets, name.upper())(str(root), train=train, download=False)
        except RuntimeError:
            folder = "cifar-10-batches-py" if name == "cifar10" else "cifar-100-python"
            raise DataProblem(
                Problem(
                    key,
                    f"{name} as torchvision stores it ({folder}/ with its checksums), or parquet files",
                    f"neither in {root}",
                    f"unpack the archive of {name} there, or point {key} at its parquet files",
                )
            ) from None
        self.data, self.targets, self.classes = base.data, base.targets, list(base.classes)

    def image(self, i: int) -> Image.Image:
        """The i-th image, RGB."""
        return Image.fromarray(self.data[i])

    def target(self, i: int) -> int:
        """Its label."""
        return self.targets[i]

    def __len__(self) -> int:
        return len(self.targets)


class Held(Dataset):
    """A data set as (image, target), for validation."""

    def __init__(self, base: _Indexed) -> None:
        self.base = base

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        _, image, target = self.base[index]
        return image, target


def open_dataset(data: Mapping[str, Any], part: str) -> _Indexed:
    """The data set that a `data` section names, without transforms.

    Args:
        data: with `dataset`, `train_path`, `val_path`, `format`, `no_labels`.
        part: `train` or `val`.

    Raises:
        DataProblem: if it isn't there, or isn't what the section says.
    """
    key = f"data.{part}_path"
    root = Path(str(data[f"{part}_path"])).expanduser()
    if not root.exists():
        fix = f"set {key} to a folder or parquet file that exists"
        raise DataProblem(Problem(key, "an existing path", str(root), fix))
    files = parquet_files(root)
    if {file.name.startswith("train") for file in files} == {True, False}:
        # The Hub's layout keeps train… and test… in one folder.
        files = [file for file in files if file.name.startswith("train") == (part == "train")]
    if files:
        return ParquetImages(files, key, bool(data["no_labels"]))
    if data["format"] == "parquet":
        raise DataProblem(Problem(key, "parquet files", f"none in {root}", "set data.format=image_folder"))
    if data["dataset"] in ("cifar10", "cifar100"):
        return CifarImages(data["dataset"], root, part == "train", key)
    if not root.is_dir():
        raise DataProblem(Problem(key, "a folder, or a .parquet file", str(root), "name the folder of the images"))
    return FlatFolder(root, key) if data["no_labels"] else ClassFolders(root, key)


def validation_transform(cfg: DictConfig) -> Callable[[Image.Image], Any]:
    """Resize and centre crop to the first view's size, as the network sees it in training.

    Above 64 pixels the shorter side is resized to 256/224 of the crop, as is usual; small images are used whole.
    """
    from torchvision import transforms

    mean, std = normalisation(cfg)
    size = int(as_plain(cfg.augmentations)[0]["crop_size"])
    resize = size if size <= 64 else round(size * 256 / 224)
    return transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
