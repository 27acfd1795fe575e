"""Every layout of data × every command: the same images, under the same ids, in the same order."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.data import image_source
from rela_zoo.data.datasets import DataProblem, open_dataset
from rela_zoo.embeddings import embed
from rela_zoo.selection.record import read_epoch


class Layout(NamedTuple):
    """Where the data are, ids in order (None: only their number is known beforehand), and labels."""

    path: Path
    ids: list[str] | None
    labels: list[int] | None
    count: int = 0


_made = 0


def picture() -> Image.Image:
    """Each one another."""
    global _made
    _made += 1
    return Image.fromarray(np.random.default_rng(_made).integers(0, 256, (6, 6, 3), dtype=np.uint8))


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture().save(path, "JPEG" if path.suffix == ".jfif" else None)


def parquet(path: Path, count: int, label: str | None = "label", paths: list[str] | None = None) -> None:
    rows = []
    for i in range(count):
        buffer = io.BytesIO()
        picture().save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": paths[i] if paths else None})
    columns: dict[str, Any] = {"image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if label:
        columns[label] = pa.array([i % 2 for i in range(count)])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=3)


def class_folders(root: Path) -> Layout:
    write(root, "b/1.png", "b/0.jpg", "a/2.png")
    return Layout(root, ["a/2.png", "b/0.jpg", "b/1.png"], [0, 1, 1])


def deep_class_folders(root: Path) -> Layout:
    write(root, "a/x/y/1.png", "a/2.png", "b/z/0.png")
    return Layout(root, ["a/2.png", "a/x/y/1.png", "b/z/0.png"], [0, 0, 1])


def classes_that_begin_alike(root: Path) -> Layout:
    write(root, "cat/0.png", "cat-big/0.png", "cat.old/0.png", "Dog/0.png")
    # By path: "-" and "." come before "/"; the numbers of classes follow their names.
    return Layout(root, ["Dog/0.png", "cat-big/0.png", "cat.old/0.png", "cat/0.png"], [0, 2, 3, 1])


def flat(root: Path) -> Layout:
    write(root, "1.png", "0.png", "10.png")
    (root / "notes").mkdir()
    return Layout(root, ["0.png", "1.png", "10.png"], None)


def loose_beside_classes(root: Path) -> Layout:
    write(root, "a/0.png", "b/0.png", "thumbnail.png")
    return Layout(root, ["a/0.png", "b/0.png"], [0, 1])


def hidden(root: Path) -> Layout:
    write(root, "a/0.png", "a/.1.png", "b/0.png", ".ipynb_checkpoints/0-checkpoint.png", "b/.cache/2.png", ".x.png")
    (root / ".git").mkdir()
    return Layout(root, ["a/0.png", "b/0.png"], [0, 1])


def hidden_in_a_flat_one(root: Path) -> Layout:
    write(root, "0.png", ".1.png", ".ipynb_checkpoints/0-checkpoint.png")
    return Layout(root, ["0.png"], None)


def copied_by_a_mac(root: Path) -> Layout:
    write(root, "a/0.jpg", "b/0.jpg")
    companion = bytes([0, 5, 22, 7, 0, 2, 0, 0]) + b"Mac OS X        " + bytes(100)
    for name in ("a/._0.jpg", "b/._0.jpg", "._a", "__MACOSX/a/._0.jpg", "__MACOSX/._a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(companion)
    return Layout(root, ["a/0.jpg", "b/0.jpg"], [0, 1])


def links(root: Path) -> Layout:
    elsewhere = root.with_name(f"{root.name}-elsewhere")
    write(elsewhere, "more/1.png", "c/0.png", "file.png")
    write(root, "a/0.png", "b/0.png")
    (root / "a" / "more").symlink_to(elsewhere / "more")
    (root / "c").symlink_to(elsewhere / "c")
    (root / "b" / "9.png").symlink_to(elsewhere / "file.png")
    (root / "b" / "broken.png").symlink_to(elsewhere / "nowhere.png")
    return Layout(root, ["a/0.png", "a/more/1.png", "b/0.png", "b/9.png", "c/0.png"], [0, 0, 1, 1, 2])


def links_in_circles(root: Path) -> Layout:
    write(root, "a/0.png", "b/0.png")
    (root / "a" / "up").symlink_to(root)
    (root / "loop").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b")
    (root / "a" / "other").symlink_to(root / "b")
    (root / "a" / "itself.png").symlink_to("itself.png")
    (root / "itself").symlink_to("itself")
    return Layout(root, ["a/0.png", "a/other/0.png", "b/0.png"], [0, 0, 1])


def endings(root: Path) -> Layout:
    write(root, "a/0.png", "a/1.gif", "a/2.jfif", "b/0.PNG", "b/1.gif")
    (root / "a" / "notes.txt").write_text("")
    return Layout(root, ["a/0.png", "b/0.PNG"], [0, 1])


def folders_of_splits(root: Path) -> Layout:
    write(root, "train/a/0.png", "val/a/0.png")
    return Layout(root, ["train/a/0.png", "val/a/0.png"], [0, 1])


def parquet_file(root: Path) -> Layout:
    parquet(root / "x.parquet", 4)
    return Layout(root / "x.parquet", None, [0, 1, 0, 1], 4)


def parquet_with_paths(root: Path) -> Layout:
    parquet(root / "x.parquet", 4, "labels", ["d", "c", "b", "a"])
    return Layout(root, ["d", "c", "b", "a"], [0, 1, 0, 1])


def parquet_parts(root: Path) -> Layout:
    parquet(root / "train-00001-of-00002.parquet", 3, paths=["x", "y", "z"])
    parquet(root / "train-00000-of-00002.parquet", 2, paths=["u", "v"])
    return Layout(root, ["u", "v", "x", "y", "z"], [0, 1, 0, 1, 0])


def parquet_splits(root: Path) -> Layout:
    parquet(root / "train.parquet", 5, "fine_label")
    parquet(root / "test.parquet", 2, "fine_label")
    return Layout(root, None, [0, 1, 0, 1, 0], 5)


def hub_snapshot(root: Path) -> Layout:
    parquet(root / "data" / "train-00000-of-00001.parquet", 4)
    parquet(root / ".cache" / "train-00000-of-00001.parquet", 3)
    (root / "README.md").write_text("---\n---\n")
    return Layout(root, None, [0, 1, 0, 1], 4)


def hub_snapshot_of_links(root: Path) -> Layout:
    blobs = root.with_name(f"{root.name}-blobs")
    parquet(blobs / "0", 4, paths=list("abcd"))
    parquet(blobs / "1", 3, paths=list("efg"))
    (root / "data").mkdir(parents=True)
    (root / "data" / "train-00000-of-00001.parquet").symlink_to(blobs / "0")
    (root / "data" / "validation-00000-of-00001.parquet").symlink_to(blobs / "1")
    return Layout(root, list("abcd"), [0, 1, 0, 1])


def hub_conversion(root: Path) -> Layout:
    parquet(root / "default" / "test" / "0000.parquet", 3)
    parquet(root / "default" / "train" / "0000.parquet", 4, paths=list("abcd"))
    return Layout(root, list("abcd"), [0, 1, 0, 1])


def pattern(root: Path) -> Layout:
    parquet(root / "test-0.parquet", 2, paths=["x", "y"])
    parquet(root / "train-0.parquet", 3)
    return Layout(root / "test-*.parquet", ["x", "y"], [0, 1])


def parquet_without_labels(root: Path) -> Layout:
    parquet(root / "x.parquet", 3, None)
    return Layout(root, None, None, 3)


def h5_file(root: Path) -> Layout:
    h5py = pytest.importorskip("h5py")
    root.mkdir(parents=True)
    with h5py.File(root / "x.h5", "w") as store:
        for name in ("b/1.png", "b/0.png", "a/0.png"):
            buffer = io.BytesIO()
            picture().save(buffer, "PNG")
            group, image = name.split("/")
            store.require_group(group)[image] = np.frombuffer(buffer.getvalue(), np.uint8)
    return Layout(root / "x.h5", ["a/0.png", "b/0.png", "b/1.png"], [0, 1, 1])


LAYOUTS = (
    *(class_folders, deep_class_folders, classes_that_begin_alike, flat, loose_beside_classes, hidden),
    *(hidden_in_a_flat_one, copied_by_a_mac, links, links_in_circles, endings, folders_of_splits, parquet_file),
    *(parquet_with_paths, parquet_parts, parquet_splits, hub_snapshot, hub_snapshot_of_links, hub_conversion, pattern),
    *(parquet_without_labels, h5_file),
)


@pytest.fixture(params=LAYOUTS, ids=lambda make: make.__name__)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    make: Callable[[Path], Layout] = request.param
    return make(tmp_path / "data")


def section(path: Path, no_labels: bool) -> dict[str, Any]:
    return {
        "dataset": "custom",
        "train_path": str(path),
        "val_path": None,
        "format": "image_folder",
        "no_labels": no_labels,
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_command_sees_the_same(layout: Layout, tmp_path: Path, make_prior: Any) -> None:
    source = image_source(str(layout.path))
    ids = list(source.ids)
    if layout.ids is not None:
        assert ids == layout.ids
    assert len(ids) == len(source) == (layout.count or len(layout.ids or ()))

    # embed
    assert list(embed(make_prior(), str(layout.path), tmp_path / "out", progress=False).ids) == ids

    # pretrain, with labels and without
    unlabelled = open_dataset(section(layout.path, no_labels=True), "train")
    assert list(image_source(unlabelled).ids) == ids
    assert [item[0] for item in unlabelled] == list(range(len(ids)))  # type: ignore[attr-defined]
    assert {unlabelled.target(i) for i in range(len(ids))} == {-1}
    if layout.labels is None:
        assert source.labels is None
        with pytest.raises(DataProblem, match=r"class folders|column of numbers"):
            open_dataset(section(layout.path, no_labels=False), "train")
    else:
        labelled = open_dataset(section(layout.path, no_labels=False), "train")
        assert list(image_source(labelled).ids) == ids
        assert list(source.labels or ()) == [labelled.target(i) for i in range(len(ids))] == layout.labels
        assert len(source.classes) > max(layout.labels)
        for (_, a, _), (_, b, _) in zip(labelled, unlabelled, strict=True):  # type: ignore[call-overload]
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    # subset
    arguments = ["subset", "export", str(layout.path), "--out", str(tmp_path / "subsets"), "--epochs", "1"]
    ran = CliRunner().invoke(app, [*arguments, "--data-ratio", "1.0", "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    drawn, _ = read_epoch(tmp_path / "subsets", 0)
    assert sorted(drawn) == sorted(ids)
    positions = pq.read_table(tmp_path / "subsets" / "epoch-00000.parquet").to_pydict()
    assert [ids[i] for i in positions["index"]] == positions["id"]
    assert json.loads((tmp_path / "subsets" / "subsets.json").read_text())["n"] == len(ids)


@pytest.mark.parametrize("make", [class_folders, flat, hidden, copied_by_a_mac, parquet_file, parquet_parts])
def test_nothing_is_said_where_nothing_is_left_out(make: Callable[[Path], Layout], tmp_path: Path) -> None:
    layout = make(tmp_path / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = image_source(layout.path)
    assert source.left_out == ()


@pytest.mark.parametrize("name", ["a", "notes"])
def test_an_empty_class_folder_stops_every_command(tmp_path: Path, make_prior: Any, name: str) -> None:
    write(tmp_path / "data", "full/0.png")
    (tmp_path / "data" / name).mkdir()
    (tmp_path / "data" / name / "notes.txt").write_text("")
    for no_labels in (True, False):
        with pytest.raises(DataProblem, match=f"an empty class folder: '{name}'"):
            open_dataset(section(tmp_path / "data", no_labels), "train")
    with pytest.raises(Exception, match=f"an empty class folder: '{name}'"):
        embed(make_prior(), tmp_path / "data", tmp_path / "out", progress=False)
