"""Two labelled parts: the same share of every class, one numbering, none without label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rela_zoo.data import image_source
from rela_zoo.data._arrays import ArraySource
from rela_zoo.data.held_out import labelled_parts
from rela_zoo.errors import EmbeddingsError


def test_parts_are_disjoint_whole_and_stratified(tmp_path: Path, make_folder: Any) -> None:
    make_folder(tmp_path, {"a": 10, "b": 5, "c": 1})
    source = image_source(tmp_path)
    train, val = labelled_parts(source, val_fraction=0.2, seed=3)
    assert np.bincount(val.labels, minlength=3).tolist() == [2, 1, 0]
    assert np.bincount(train.labels).tolist() == [8, 4, 1]
    ids = [{source.ids[i] for i in part._indices} for part in (train, val)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(source.ids)
    image, label = val[2]
    assert label == 1
    assert np.array_equal(np.asarray(image), np.asarray(source.image(int(val._indices[2]))))


def test_classes_are_known_by_name(tmp_path: Path, make_folder: Any) -> None:
    make_folder(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    make_folder(tmp_path / "val", {"b": 1, "c": 2}, seed=1)
    train, val = labelled_parts(image_source(tmp_path / "train"), image_source(tmp_path / "val"))
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert val.labels.tolist() == [1, 2, 2]
    assert val.classes == ["a", "b", "c"]


def test_whatever_order_their_names_come_in(make_pictures: Any) -> None:
    first = ArraySource(make_pictures(3), "array", [0, 1, 2], ["r", "g", "b"])
    second = ArraySource(make_pictures(4, seed=1), "array", [0, -1, 1, 2], ["b", "g", "r"])
    assert labelled_parts(first, second)[1].labels.tolist() == [2, 1, 0]
    with pytest.raises(EmbeddingsError, match=r"classes that those to learn from have not(.|\n)*got: +x"):
        labelled_parts(first, ArraySource(make_pictures(2, seed=1), "array", [0, 1], ["x", "g"]))


def test_images_without_a_label_belong_to_no_part(make_pictures: Any) -> None:
    def source(labels: list[int], seed: int) -> ArraySource:
        return ArraySource(make_pictures(len(labels), seed=seed), "array", labels, ["x", "y"])

    train, val = labelled_parts(source([0, -1, 1, 1], 0), source([-1, 1, 0], 1))
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1, 1], [1, 0])
    assert train._indices.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [(None, 0.2, "no labels"), ([0, 0, 0], 0.2, "one class only"), ([0, 1, 1], 1.0, "is no part"),
     ([0, 1, -1], 0.5, "no labelled images to judge by")],
)  # fmt: skip
def test_what_is_refused(make_pictures: Any, labels: Any, fraction: float, message: str) -> None:
    source = ArraySource(make_pictures(3), "array", labels, None if labels is None else ["x", "y"])
    with pytest.raises(EmbeddingsError, match=message):
        labelled_parts(source, val_fraction=fraction)
