"""Subsets on disk: written as drawn, replayed by sample id, refused when they are of something else."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rela_zoo.errors import SelectionError
from rela_zoo.selection import build_subset, parse_selection
from rela_zoo.selection.record import RecordedSubset, ReplayedSubset, SubsetWriter, read_epoch, read_info
from rela_zoo.selection.subset import Draw, EpochSubset

IDS = [f"class/{i:02d}.png" for i in range(50)]


def _record(folder, subset=None, epochs=3, ids=IDS):
    subset = subset or EpochSubset(50, 0.2, 7)
    recorded = RecordedSubset(subset, SubsetWriter(folder, ids, subset))
    for epoch in range(epochs):
        assert torch.equal(recorded.draw(epoch).indices, subset.draw(epoch).indices)
    return subset


def test_anything_can_read_the_files(tmp_path):
    subset = _record(tmp_path)
    table = pq.read_table(tmp_path / "epoch-00001.parquet")
    assert table.schema.names == ["id", "index", "weight"]
    assert [str(kind) for kind in table.schema.types] == ["string", "int64", "float"]
    indices = subset.indices(1).tolist()
    assert table.column("index").to_pylist() == indices
    assert table.column("id").to_pylist() == [IDS[i] for i in indices]
    assert set(table.column("weight").to_pylist()) == {1.0}
    info = json.loads((tmp_path / "subsets.json").read_text())
    assert info["format"] == "rela_zoo.subsets"
    assert {info[key] for key in ("n", "ratio", "seed")} == {50, 0.2, 7}
    assert info["selection"] == {"name": "uniform"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f"epoch-{e:05d}.parquet" for e in range(3)), "subsets.json"]


def test_what_was_recorded_is_replayed_whatever_the_order_of_the_data(tmp_path):
    subset = _record(tmp_path)
    shuffled = np.random.default_rng(0).permutation(50)
    ids = [IDS[i] for i in shuffled]
    config, _ = parse_selection({"name": "replay", "path": str(tmp_path)}, 0.2)
    replayed = build_subset(config, n=50, ratio=0.2, seed=99, epochs=3, ids=ids)
    assert len(replayed) == 10
    assert replayed.counts is None
    for epoch in range(3):
        draw = replayed.draw(epoch)
        assert draw.weights is None
        assert [ids[i] for i in draw.indices.tolist()] == [IDS[i] for i in subset.indices(epoch).tolist()]


def test_weights_and_sizes_are_kept(tmp_path):
    class Grows(EpochSubset):
        def draw(self, epoch):
            indices = self.indices(0)[: 3 + epoch]
            return Draw(indices, torch.arange(len(indices)) / 2)

    subset = _record(tmp_path, Grows(50, 0.2, 7))
    replayed = ReplayedSubset(tmp_path, IDS)
    assert replayed.counts == (3, 4, 5)
    draw = replayed.draw(2)
    assert torch.equal(draw.indices, subset.draw(2).indices)
    assert draw.weights.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_the_same_subsets_may_be_written_again_and_others_may_not(tmp_path):
    _record(tmp_path)
    _record(tmp_path, epochs=4)
    assert read_info(tmp_path)["epochs"] == 4
    with pytest.raises(SelectionError, match="holds other subsets"):
        _record(tmp_path, EpochSubset(50, 0.2, 8))
    with pytest.raises(SelectionError, match="holds other subsets"):
        _record(tmp_path, ids=[f"other/{i}.png" for i in range(50)])


def test_what_does_not_fit_is_refused(tmp_path):
    _record(tmp_path)
    config, _ = parse_selection({"name": "replay", "path": str(tmp_path)}, 0.2)
    with pytest.raises(SelectionError, match="another size"):
        build_subset(config, n=50, ratio=0.5, seed=0, epochs=3, ids=IDS)
    with pytest.raises(SelectionError, match="too few epochs"):
        build_subset(config, n=50, ratio=0.2, seed=0, epochs=4, ids=IDS)
    with pytest.raises(SelectionError, match="not in this data set"):
        ReplayedSubset(tmp_path, [f"other/{i}.png" for i in range(50)]).draw(0)
    with pytest.raises(SelectionError, match="epoch 3 can't be read"):
        read_epoch(tmp_path, 3)


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(SelectionError, match="no subsets"):
        read_info(tmp_path / "nowhere")
    _record(tmp_path)
    path = tmp_path / "epoch-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(SelectionError, match="epoch 1 can't be read"):
        read_epoch(tmp_path, 1)
    path.unlink()
    with pytest.raises(SelectionError, match="lacks epochs"):
        read_info(tmp_path)
    (tmp_path / "subsets.json").write_text("{}")
    with pytest.raises(SelectionError, match="no subsets"):
        read_info(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SelectionError, match="can't be written"):
        _record(tmp_path / "file" / "subsets")
