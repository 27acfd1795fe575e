"""Reading a table, and refusing a damaged one."""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rela_zoo.embeddings import Index, embed, open_embeddings, open_ids
from rela_zoo.embeddings._format import EmbedPlan, pretty_json, shard_header, shard_name
from rela_zoo.errors import EmbeddingsError

ROWS = 50


@pytest.fixture
def folder(tmp_path: Path, make_prior: Any, make_pictures: Any) -> Path:
    embed(make_prior(), make_pictures(ROWS), tmp_path / "out", shard_rows=16, batch_size=7, progress=False)
    return tmp_path / "out"


@pytest.fixture
def expected(make_pictures: Any) -> np.ndarray:
    """The rows by numpy alone: mean colour times the matrix of the prior, to the precision of float16."""
    matrix = np.arange(12.0).reshape(3, 4)
    return make_pictures(ROWS).reshape(ROWS, -1, 3).mean(1) / 255 @ matrix


def rewrite(folder: Path, number: int, rows: np.ndarray, dim: int | None = None) -> None:
    """Put other rows into a shard, hashes and digest made to fit: damage that no hash can show."""
    index = json.loads((folder / "index.json").read_bytes())
    name = shard_name(number)
    metadata = {"plan": Index.model_validate(index).plan_digest(), "shard": number, "skipped": []}
    content = shard_header(len(rows), rows.shape[1], "float16", metadata) + rows.astype("<f2").tobytes()
    (folder / name).write_bytes(content)
    index["shards"][number] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    parsed = Index.model_validate(index)
    (folder / "index.json").write_bytes(
        pretty_json(parsed.model_copy(update={"digest": parsed.content_digest()}).model_dump(mode="json"))
    )


class TestPart:
    """A table of which shard 1 (rows 16 to 31 of 50) is not here."""

    @pytest.fixture
    def part(self, folder: Path) -> Path:
        (folder / shard_name(1)).rename(folder.parent / "elsewhere")
        return folder

    def test_it_is_opened_only_on_purpose(self, part: Path) -> None:
        with pytest.raises(EmbeddingsError, match=r"(?s)shard-00001.*is missing.*partial=True"):
            open_embeddings(part)
        assert open_embeddings(part, partial=True).missing == (1,)

    def test_rows_that_are_here_are_read_and_others_refused(self, part: Path, expected: np.ndarray) -> None:
        table = pickle.loads(pickle.dumps(open_embeddings(part, partial=True)))
        assert table.shape == (ROWS, 4)
        assert len(table.ids) == ROWS
        assert repr(table).endswith("3 of 4 shards here)")
        picks = [49, 0, 15, 32]
        assert table.shards_of(picks) == [0, 2, 3]
        for read in (table.rows, table.rows_once):
            np.testing.assert_allclose(read(picks).numpy(), expected[picks], rtol=1e-3)
            with pytest.raises(EmbeddingsError, match=r"rows 16 to 31 of .* are not on this machine"):
                read([0, 16])
        assert len(torch.cat(list(table.iter_rows(7, start=32)))) == 18
        with pytest.raises(EmbeddingsError, match="not on this machine"):
            list(table.iter_rows(7))

    def test_what_is_here_is_verified(self, part: Path) -> None:
        whole = open_embeddings(part, verify="full", partial=True)
        assert whole.digest == whole.info.content_digest()
        path = part / shard_name(2)
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
        with pytest.raises(EmbeddingsError, match=r"(?s)shard-00002.*damaged"):
            open_embeddings(part, verify="full", partial=True)

    def test_the_rest_may_come_later(self, part: Path) -> None:
        (part.parent / "elsewhere").rename(part / shard_name(1))
        assert open_embeddings(part, verify="full").missing == ()

    def test_ids_alone_give_no_rows(self, folder: Path) -> None:
        table = open_ids(folder)
        assert table.missing == (0, 1, 2, 3)
        with pytest.raises(EmbeddingsError, match="not on this machine"):
            table.rows([0])


class TestReading:
    @pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda x: np.array(x, np.int32)])
    def test_rows_are_those_of_the_images(self, folder: Path, expected: np.ndarray, kind: Any) -> None:
        table = open_embeddings(folder)
        assert table.shape == (ROWS, 4)
        assert len(table) == ROWS
        picks = [49, 0, 15, 16, 17, 31, 32, 0, 48]
        rows = table.rows(kind(picks))
        assert rows.dtype == torch.float16 == table.dtype
        np.testing.assert_allclose(rows.numpy(), expected[picks], rtol=1e-3)

    @pytest.mark.parametrize(
        "picks", [[49, 0, 15, 16, 17, 31, 32, 0, 48], [*range(10, 45)], [*range(44, 9, -1)], [0, 49], []]
    )
    def test_rows_once_are_the_rows_and_leave_no_map(self, folder: Path, picks: list[int]) -> None:
        table, other = open_embeddings(folder), open_embeddings(folder)
        assert torch.equal(table.rows_once(picks), other.rows(picks))
        assert not table._maps

    def test_rows_are_copies(self, folder: Path) -> None:
        table = open_embeddings(folder)
        before = table.rows([3]).clone()
        table.rows([3]).zero_()
        assert torch.equal(table.rows([3]), before)

    @pytest.mark.parametrize("chunk", [1, 7, 16, 33, 50, 1000])
    def test_pieces_are_the_rows_in_order(self, folder: Path, chunk: int) -> None:
        table = open_embeddings(folder)
        pieces = list(table.iter_rows(chunk))
        assert [len(one) for one in pieces[:-1]] == [chunk] * (len(pieces) - 1)
        assert torch.equal(torch.cat(pieces), table.rows(range(ROWS)))

    def test_no_rows(self, folder: Path) -> None:
        assert open_embeddings(folder).rows([]).shape == (0, 4)
        assert open_embeddings(folder).rows(torch.empty(0, dtype=torch.long)).shape == (0, 4)

    @pytest.mark.parametrize("wrong", [[-1], [ROWS], [0.5], [[1, 2]], [True, False]])
    def test_what_is_no_row_number(self, folder: Path, wrong: Any) -> None:
        with pytest.raises(EmbeddingsError):
            open_embeddings(folder).rows(wrong)

    def test_positions_join_by_id(self, folder: Path) -> None:
        table = open_embeddings(folder)
        order = np.random.default_rng(0).permutation(ROWS)
        found = table.positions([table.ids[i] for i in order])
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, order)
        assert len(table.positions([])) == 0

    def test_positions_name_what_is_missing(self, folder: Path) -> None:
        table = open_embeddings(folder)
        with pytest.raises(EmbeddingsError, match="4 of 5 samples have no row") as caught:
            table.positions([table.ids[0], *"abcd"])
        assert "'a', 'b', 'c'" in str(caught.value)
        assert "'d'" not in str(caught.value)

    def test_positions_refuse_an_id_twice(self, folder: Path) -> None:
        table = open_embeddings(folder)
        with pytest.raises(EmbeddingsError, match="id another sample has"):
            table.positions([table.ids[0], table.ids[0]])

    def test_it_can_be_pickled(self, folder: Path) -> None:
        table = open_embeddings(folder)
        table.rows([1])
        again = pickle.loads(pickle.dumps(table))
        assert torch.equal(again.rows([1, 40]), table.rows([1, 40]))
        assert again.ids == table.ids
        assert again.digest == table.digest

    def test_ids_are_a_sequence(self, folder: Path) -> None:
        ids = open_embeddings(folder).ids
        assert len(ids) == ROWS
        assert list(ids)[2:4] == ids[2:4]
        assert ids[-1].startswith("49:")
        assert "0:no" not in ids


class TestRefusals:
    def test_truncated_shard(self, folder: Path) -> None:
        path = folder / shard_name(1)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(EmbeddingsError, match=r"shard-00001\.safetensors is truncated"):
            open_embeddings(folder)

    def test_shard_too_long(self, folder: Path) -> None:
        path = folder / shard_name(1)
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(EmbeddingsError, match="not of the size"):
            open_embeddings(folder)

    def test_missing_shard(self, folder: Path) -> None:
        (folder / shard_name(2)).unlink()
        with pytest.raises(EmbeddingsError, match=r"shard-00002\.safetensors is missing"):
            open_embeddings(folder)

    def test_missing_or_cut_ids(self, folder: Path) -> None:
        path = folder / "ids.jsonl"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(EmbeddingsError, match=r"ids\.jsonl is truncated"):
            open_embeddings(folder)
        path.unlink()
        with pytest.raises(EmbeddingsError, match=r"ids\.jsonl is missing"):
            open_embeddings(folder)

    def test_flipped_byte_in_a_row(self, folder: Path) -> None:
        path = folder / shard_name(1)
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        open_embeddings(folder)  # sizes are right
        with pytest.raises(EmbeddingsError, match=r"shard-00001\.safetensors is damaged"):
            open_embeddings(folder, verify="full")

    def test_flipped_byte_in_the_ids(self, folder: Path) -> None:
        path = folder / "ids.jsonl"
        content = bytearray(path.read_bytes())
        content[5] = ord("0") if content[5] != ord("0") else ord("1")
        path.write_bytes(content)
        table = open_embeddings(folder)  # ids are not read yet
        with pytest.raises(EmbeddingsError, match="wrong digest"):
            table.ids[0]
        with pytest.raises(EmbeddingsError, match="wrong digest"):
            open_embeddings(folder, verify="full")

    def test_mixed_widths(self, folder: Path) -> None:
        rewrite(folder, 1, np.zeros((16, 5)))
        with pytest.raises(EmbeddingsError, match="another width") as caught:
            open_embeddings(folder)
        assert caught.value.got == 5

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite(self, folder: Path, bad: float) -> None:
        rows = np.ones((16, 4))
        rows[5, 2] = bad
        rewrite(folder, 1, rows)
        table = open_embeddings(folder)
        assert torch.isfinite(table.rows([0, 20])).all()
        for read in (
            lambda: table.rows([0, 21]),
            lambda: list(table.iter_rows(7)),
            lambda: open_embeddings(folder, verify="full"),
        ):
            with pytest.raises(EmbeddingsError, match=r"row 21 .* not finite") as caught:
                read()
            assert table.ids[21] in str(caught.value)

    def test_shard_of_another_artefact(self, folder: Path, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        other = tmp_path / "other"
        embed(make_prior("other"), make_pictures(ROWS), other, shard_rows=16, progress=False)
        (folder / shard_name(0)).write_bytes((other / shard_name(0)).read_bytes())
        with pytest.raises(EmbeddingsError, match="made for other embeddings"):
            open_embeddings(folder)

    def test_no_embeddings(self, tmp_path: Path) -> None:
        with pytest.raises(EmbeddingsError, match="no embeddings"):
            open_embeddings(tmp_path)
        with pytest.raises(EmbeddingsError, match="no such folder"):
            open_embeddings(tmp_path / "nowhere")


def test_opening_imagenet_takes_well_under_a_second(tmp_path: Path) -> None:
    """1,281,167 × 768 float16 in sparse files: a single read of all rows would be seen in the time."""
    rows, dim, shard_rows = 1_281_167, 768, 8192
    source = {"rows": rows, "ids_sha256": "0" * 64, "probe": "0" * 64, "shard_rows": shard_rows}
    plan = EmbedPlan(
        format="rela-zoo-embeddings", format_version=1, prior={"id": "x"}, preprocessing="upstream", layer="",
        dtype="float16", dim=dim, source=source,
    )  # fmt: skip
    shards = []
    for number, first in enumerate(range(0, rows, shard_rows)):
        count = min(shard_rows, rows - first)
        header = shard_header(count, dim, "float16", {"plan": plan.plan_digest(), "shard": number, "skipped": []})
        size = len(header) + count * dim * 2
        with (tmp_path / shard_name(number)).open("wb") as file:
            file.write(header)
            file.truncate(size)
        shards.append({"file": shard_name(number), "rows": count, "bytes": size, "sha256": "0" * 64})
    with (tmp_path / "ids.jsonl").open("wb") as file:
        file.truncate(30 * rows)
    ids = {"file": "ids.jsonl", "bytes": 30 * rows, "sha256": "0" * 64}
    raw = {**plan.model_dump(), "made_by": "test", "rows": rows, "ids": ids, "shards": shards, "skipped": []}
    index = Index.model_validate({**raw, "digest": "0" * 64})
    (tmp_path / "index.json").write_bytes(
        pretty_json(index.model_copy(update={"digest": index.content_digest()}).model_dump(mode="json"))
    )
    started = time.perf_counter()
    table = open_embeddings(tmp_path)
    opened = time.perf_counter()
    picked = table.rows(np.random.default_rng(0).integers(0, rows, 1024))
    read = time.perf_counter()
    assert table.shape == (rows, dim)
    assert not picked.any()
    assert opened - started < 0.5
    assert read - opened < 0.5
