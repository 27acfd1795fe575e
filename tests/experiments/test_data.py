from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from experiments._data import choose, write_part


def test_images_are_chosen_once_and_for_all() -> None:
    assert choose(100, 10).tolist() == choose(100, 10).tolist()
    assert len(set(choose(100, 10).tolist())) == 10
    assert choose(10, None).tolist() == choose(10, 50).tolist() == list(range(10))


def test_a_part_is_of_all_classes_and_named_by_what_is_in_it(data: Path, tmp_path: Path) -> None:
    name = write_part(data, "train", 10, tmp_path)
    assert name.startswith("cifar10/train-10-")
    written, whole = pq.read_table(tmp_path / name), pq.read_table(data / "train.parquet")
    assert written.equals(whole.take(choose(80, 10)))
    assert set(written.column("label").to_pylist()) == {0, 1}
    before = (tmp_path / name).stat().st_mtime_ns
    assert write_part(data.parent / data.name, "train", 10, tmp_path) == name
    assert (tmp_path / name).stat().st_mtime_ns == before, "it is not written again"
    # Other images, or the same with other labels, are another part.
    (tmp_path / "other").mkdir()
    labels = [1 - label for label in whole.column("label").to_pylist()]
    pq.write_table(whole.set_column(1, "label", [labels]), tmp_path / "other" / "train.parquet")
    assert (
        len({name, write_part(data, "train", 11, tmp_path), write_part(tmp_path / "other", "train", 10, tmp_path)}) == 3
    )


def test_missing_data_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="point --data"):
        write_part(tmp_path, "train", None, tmp_path)
