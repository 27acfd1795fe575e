"""From whatever the user calls data to an `ImageSource`: the one opener of every command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rela_zoo.data._arrays import ArraySource
from rela_zoo.data._arrow import ArrowSource, saved_splits
from rela_zoo.data._cifar import FOLDERS, cifar_source
from rela_zoo.data._folders import folder_source
from rela_zoo.data._h5 import SUFFIXES as H5_SUFFIXES
from rela_zoo.data._h5 import H5Source
from rela_zoo.data._lance import SUFFIX as LANCE_SUFFIX
from rela_zoo.data._lance import LanceSource
from rela_zoo.data._listing import Listing, is_hidden, list_folder
from rela_zoo.data._npy import SUFFIX as NPY_SUFFIX
from rela_zoo.data._npy import NpySource
from rela_zoo.data._objects import FORMS, from_object
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._patterns import address_of, matches, url_of
from rela_zoo.data._source import ImageSource, LeftOut
from rela_zoo.data._splits import (
    NAMES,
    by_split_name,
    canonical,
    named_files,
    no_such_split,
    parquet_source,
    say,
    say_taken,
    split_source,
)
from rela_zoo.data._tars import TarSource
from rela_zoo.errors import EmbeddingsError


def image_source(data: Any, *, split: str | None = None) -> ImageSource:
    """Make one list of images with lasting ids, and labels where there are any, out of any accepted form of data.

    Hidden files and folders, and a Mac's companions `._name`, are none of the data; linked folders are followed. What
    else is not taken is counted in `left_out` and said in a warning.

    Args:
        data: an `ImageSource`, or a data set over one.
            A path: to an image folder (class folders or flat); to a parquet file in the Hub's layout or a WebDataset
            tar, to a folder with such files in it or anywhere below, or a pattern for them (`DIR/train-*.parquet`,
            `DIR/{000..123}.tar`); to an h5 file of class groups, a `.npy` file, a Lance data set (`NAME.lance`), the
            folder of CIFAR as torchvision unpacks it, or what the `datasets` library saves or keeps. An address,
            `hf://datasets/org/name@COMMIT`, perhaps with a path behind it; or one of tars that are read where they lie,
            `https://…/{000..123}.tar`, `s3://…`, or whatever else fsspec reads.
            A data set object: of the `datasets` library; with `samples` (ImageFolder), with `images` and `root`, or
            with `data` (CIFAR10, STL10, MNIST), read now, not later; or any with a length and items (image, label) by
            number. A `torch.utils.data.Subset` or `ConcatDataset` of such; a uint8 array (N, H, W, 3), (N, 3, H, W) or
            (N, H, W).
        split: of data with several, such as `train`, `test` or `validation` (or `val`); None takes `train`, and
            says so. A folder of class folders named like splits is taken whole without it. Of a file, or of the files
            of a pattern, the name must say it, or the folder that it lies in.

    Returns:
        The source. Ids of files are POSIX paths relative to the folder, so that a folder and an ImageFolder on it
        agree; ids in tars are keys; ids of arrays, and of items without a name, are "<index>:<digest of the pixels>".
        Paths come sorted, objects in their own order.

    Raises:
        EmbeddingsError: missing path, no images, an empty class folder, repeated ids, an unknown form, several splits
            without `train` among them, or no such split.

    Examples:
        >>> from rela_zoo import image_source
        >>> images = image_source("photos")
        >>> len(images), images.ids[0], images.image(0).size, images.labels[0]
        (240, 'cat/000.png', (32, 32), 0)
    """
    if isinstance(data, str | os.PathLike):
        return open_path(os.fspath(data), None if split is None else (split,), insist=True)
    return from_object(data, split, image_source)


def open_path(data: str | Path, wanted: Sequence[str] | None, *, insist: bool) -> ImageSource:
    """The images at a path or an address.

    Args:
        data: see `image_source`.
        wanted: splits asked for, the first there being taken; None for none.
        insist: whether one of them must be there. Else what has no splits is taken as it is.

    Raises:
        EmbeddingsError: as `image_source`.
    """
    if (address := address_of(str(data))) is not None:
        from rela_zoo.data._hub import hub_source

        return hub_source(address, wanted, insist)
    url = url_of(str(data))
    if url is not None and "://" in url:
        return _at_address(url, wanted, insist)
    path = Path(url or data).expanduser()
    if not path.exists():
        if found := matches(path):
            return _of_pattern(path, found, wanted, insist)
        raise EmbeddingsError(
            f"there is nothing at {path}", expected="an image folder or a parquet file", got="no such path",
            fix="correct the path",
        )  # fmt: skip
    if path.is_dir():
        return _of_folder(path, wanted, insist)
    named_files(path, [path], wanted, insist)
    return _of_file(path)


def _of_file(path: Path) -> ImageSource:
    suffix = path.suffix.lower()
    if suffix in H5_SUFFIXES:
        return H5Source(path)
    if suffix == NPY_SUFFIX:
        return NpySource(path)
    if suffix == ".arrow":
        return ArrowSource([path])
    if suffix in (".tar", ".tgz") or ".tar" in (one.lower() for one in path.suffixes[-2:-1]):
        return TarSource([path])
    if suffix == ".parquet" or not suffix:
        return ParquetSource([path])
    raise EmbeddingsError(
        f"{path} is of no known form", expected=FORMS, got=f"a file ending in {suffix}",
        fix="name the folder that it lies in, or write it in one of these forms",
    )  # fmt: skip


def _at_address(address: str, wanted: Sequence[str] | None, insist: bool) -> TarSource:
    """Tars where they lie, read by range."""
    from rela_zoo.data._addresses import files_at, shown

    files = files_at(address)
    others = [one for one in files if not one.partition("?")[0].lower().endswith(".tar")]
    if others:
        raise EmbeddingsError(
            f"{shown(address)} can't be read from where it lies", expected="WebDataset tars: ADDRESS/{000..123}.tar",
            got=shown(others[0]), fix="name its tars, or download it",
        )  # fmt: skip
    return TarSource(*named_files(shown(address), files, wanted, insist))


def _of_pattern(pattern: Path, found: Sequence[Path], wanted: Sequence[str] | None, insist: bool) -> ImageSource:
    """The files that a pattern stands for, all of one kind."""
    kinds = {one.suffix.lower() for one in found}
    if kinds in ({".parquet"}, {".tar"}):
        files, left_out = named_files(pattern, found, wanted, insist)
        return (ParquetSource if kinds == {".parquet"} else TarSource)(files, left_out)
    raise EmbeddingsError(
        f"the files of {pattern} are not of one kind", expected="parquet files, or tars",
        got=", ".join(sorted(one or "files without an ending" for one in kinds)),
        fix="end the pattern with .parquet or .tar; of pictures name the folder",
    )  # fmt: skip


def _of_folder(path: Path, wanted: Sequence[str] | None, insist: bool) -> ImageSource:
    if path.suffix == LANCE_SUFFIX and (path / "_versions").is_dir():
        named_files(path, [path], wanted, insist)
        return LanceSource(path)
    if wanted is not None and insist and (below := _split_folder(path, wanted[0])) is not None:
        return open_path(below, None, insist=True)
    direct = [one.name for one in path.glob("*.parquet") if one.is_file() and not is_hidden(one.name)]
    if direct:
        return parquet_source(path, direct, wanted, insist)
    listing = list_folder(path)
    if listing.arrow and (saved := saved_splits(path, listing.arrow)):
        return split_source(path, saved, wanted, insist, ArrowSource)
    source = folder_source(path, listing)
    if source is not None:
        if wanted is not None and insist:
            raise no_such_split(path, wanted[0], [one for one in listing.folders if one in NAMES])
        _say_left_out(path, source.left_out)
        _suspect_splits(path, source.classes)
        return source
    for name, folder in FOLDERS.items():
        if folder in listing.folders:
            return _cifar(path, name, wanted, insist)
    if listing.parquet:
        return parquet_source(path, listing.parquet, wanted, insist)
    if listing.tars:
        return split_source(path, by_split_name(path, listing.tars), wanted, insist, TarSource)
    raise _no_images(path, listing)


def _split_folder(path: Path, split: str) -> Path | None:
    """The folder of a split inside `path`, by any of the split's names, if it is not one of parquet files."""
    names = [split, *(alias for alias, one in NAMES.items() if one == canonical(split))]
    found = next((path / name for name in names if (path / name).is_dir()), None)
    return found if found is not None and list_folder(found).images else None


def _cifar(path: Path, name: str, wanted: Sequence[str] | None, insist: bool) -> ArraySource:
    split = next((one for one in map(canonical, wanted or ("train",)) if one in ("train", "test")), None)
    if split is None:
        assert wanted is not None
        raise no_such_split(path, wanted[0], ["train", "test"])
    source = cifar_source(path, name, split)
    if wanted is None:
        say_taken(path, split, len(source), source.left_out, None)
    return source


def _say_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    """One warning for each kind of thing that lies there and is not taken."""
    by_ending = [one for one in left_out if one.what.startswith("ending in")]
    if by_ending:
        counts = ", ".join(f"{one.what.removeprefix('ending in ')} {one.count:,}" for one in by_ending)
        say(
            f"{sum(one.count for one in by_ending):,} pictures in {path} are left out, for their endings are not read: "
            f"{counts} (first: {by_ending[0].example}); save them as PNG or JPEG (.jfif is JPEG by another name)"
        )
    for one in left_out:
        if one.what == "directly in the folder":
            say(
                f"{one.count:,} images directly in {path} are left out: it has class folders, and they are in none "
                f"(first: {one.example})"
            )
        elif one.what in ("parquet files", "tars"):
            say(
                f"{one.count:,} {one.what} in {path} are left out, for it has image files (first: {one.example}); "
                f"name them, or their folder, to take them"
            )
        elif one not in by_ending:
            say(f"{one.count:,} {one.what} are left out of {path} (first: {one.example})")


def _suspect_splits(path: Path, classes: Sequence[str]) -> None:
    if classes and set(classes) <= NAMES.keys():
        say(
            f"{path} looks like a folder of splits ({', '.join(classes)}), and all of them are taken together; "
            f"for the training images alone give {path / classes[0]}"
        )


def _no_images(path: Path, listing: Listing) -> EmbeddingsError:
    got = "none of these"
    if listing.folders:
        got = f"{len(listing.folders)} folders without images ({', '.join(listing.folders[:3])})"
    others = [f"{one.count} {one.what}" for one in listing.left_out()]
    return EmbeddingsError(
        f"no images found in {path}",
        expected="images, class folders with images, parquet files or tars",
        got=", ".join([got, *others]),
        fix="save the pictures as PNG or JPEG" if listing.not_read else "correct the path",
    )
