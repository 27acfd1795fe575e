"""Rows belong to pictures, not to names: what was exchanged under the same names is seen, without the prior."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rela_zoo.data import image_source
from rela_zoo.embeddings import cached_embeddings, check_pictures, check_same_pictures, embed, open_embeddings
from rela_zoo.embeddings._pictures import RECORD, changed_pictures
from rela_zoo.errors import EmbeddingsError

# In the order of ids: what the probe of 16 and the check of 8 look at among 40 pictures.
LOOKED_AT = {round(float(p)) for count in (8, 16) for p in np.linspace(0, 39, count)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 pictures of one size on disk (BMP), so that no size gives an exchange away."""
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)):
        path = tmp_path / "data" / "a" / f"{i:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.bmp"))


def exchange(folder: Path, numbers: list[int]) -> None:
    """Other pictures under the same names, of the same size in bytes."""
    files = paths(folder)
    for i in numbers:
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(files[i])


def test_any_exchange_is_seen(folder: Path, make_prior: Any, tmp_path: Path, monkeypatch: Any, said: Any) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    first = cached_embeddings(make_prior(), image_source(folder))
    before = first.rows(list(range(40)))
    unseen = [i for i in range(40) if i not in LOOKED_AT][:18]
    assert len(unseen) == 18
    exchange(folder, unseen)
    again = cached_embeddings(make_prior(), image_source(folder))
    assert again.path != first.path
    assert "18 of 40 have changed" in str(said)
    differ = (again.rows(list(range(40))) != before).any(1).nonzero().ravel().tolist()
    assert differ == unseen
    # Both sets have their rows now, and each is found again without being made.
    third = make_prior()
    assert cached_embeddings(third, image_source(folder)).path == again.path
    assert third.calls == 0


def test_one_picture_is_enough_and_a_copy_is_no_other_picture(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed(make_prior(), folder, out, progress=False)
    assert changed_pictures(out, image_source(folder)) == []
    for path in paths(folder):
        os.utime(path, ns=(1, 1))  # as after a copy
    assert changed_pictures(out, image_source(folder)) == []
    prior = make_prior()
    embed(prior, folder, out, progress=False)
    assert prior.calls == 0
    exchange(folder, [38])
    with pytest.raises(EmbeddingsError, match=r"(?s)pictures differ.*1 others, such as 'a/38.bmp'"):
        embed(make_prior(), folder, out, progress=False)


def test_a_copy_is_read_once(folder: Path, make_prior: Any, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    embed(make_prior(), folder, out, progress=False)
    os.utime(paths(folder)[3], ns=(1, 1))
    read = []
    source = image_source(folder)
    monkeypatch.setattr(source, "raw", lambda i, whole=source.raw: read.append(i) or whole(i))
    assert changed_pictures(out, source) == []
    assert read == [3]
    assert changed_pictures(out, source) == []
    assert read == [3], "its new time is remembered"


def test_rows_without_a_record_are_known_by_their_own_time(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed(make_prior(), folder, out, progress=False)
    (out / RECORD).unlink()
    assert changed_pictures(out, image_source(folder)) == []
    later = (out / "index.json").stat().st_mtime_ns + 10**9
    os.utime(paths(folder)[5], ns=(later, later))
    assert changed_pictures(out, image_source(folder)) == ["a/05.bmp"]


def test_pictures_that_change_while_they_are_embedded(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    class Impatient(make_prior):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().forward(x)

    out, options = tmp_path / "out", dict(shard_rows=10, batch_size=10, progress=False)
    with pytest.raises(KeyboardInterrupt):
        embed(Impatient(), folder, out, **options)
    exchange(folder, [1])  # of a shard that is finished
    again = embed(make_prior(), folder, out, **options)
    afresh = embed(make_prior(), folder, tmp_path / "afresh", **options)
    assert again.digest == afresh.digest


def test_the_record_stays_on_this_machine(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    from rela_zoo.embeddings import refuse_other_content

    table = embed(make_prior(), folder, tmp_path / "out", progress=False)
    assert (table.path / RECORD).is_file()
    assert RECORD not in table.files
    refuse_other_content(table)


def test_bytes_of_the_index_with_samples(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    import hashlib
    import json

    table = embed(make_prior(), folder, tmp_path / "out", progress=False)
    index = json.loads((table.path / "index.json").read_bytes())
    assert list(index["samples"]) == sorted(table.ids)
    pixels = np.asarray(Image.open(paths(folder)[7]))
    wanted = {
        "pixels": hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest(),
        "bytes": hashlib.blake2b(paths(folder)[7].read_bytes(), digest_size=8).hexdigest(),
    }
    assert index["samples"]["a/07.bmp"] == wanted
    # One of before: the same key for key, and rows of the same digest.
    del index["samples"]
    (table.path / "index.json").write_text(json.dumps(index))
    old = open_embeddings(table.path, verify="full")
    assert (old.digest, old.info.samples) == (table.digest, None)


def test_at_most_64_samples_spread_over_the_whole(make_folder: Any, make_prior: Any, tmp_path: Path) -> None:
    ids = make_folder(tmp_path / "data", {"a": 70, "b": 70})
    table = embed(make_prior(), tmp_path / "data", tmp_path / "out", progress=False)
    found = list(table.info.samples)
    assert len(found) == 64
    places = [ids.index(one) for one in found]
    assert places[0] == 0
    assert places[-1] == 139
    assert max(np.diff(places)) <= 3


def test_published_digests_know_other_pictures(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    table = embed(make_prior(), folder, tmp_path / "out", progress=False)
    assert check_pictures(table, image_source(folder)) == (40, ())
    # Repacked as PNG under the same ids in parquet: other bytes, the same pixels.
    import io

    rows = []
    for path in paths(folder):
        buffer = io.BytesIO()
        Image.open(path).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": path.relative_to(folder).as_posix()})
    pq.write_table(pa.table({"image": rows}), tmp_path / "images.parquet")
    assert check_pictures(table, image_source(tmp_path / "images.parquet")) == (40, ())
    shutil.copytree(folder, tmp_path / "other")
    exchange(tmp_path / "other", [0, 9])
    assert check_pictures(table, image_source(tmp_path / "other")) == (40, ("a/00.bmp", "a/09.bmp"))
    other = embed(make_prior(), tmp_path / "other", tmp_path / "theirs", progress=False)
    check_same_pictures(table, table)
    with pytest.raises(EmbeddingsError, match=r"(?s)same sample ids for different pictures.*2 of 40"):
        check_same_pictures(table, other)


def test_ids_that_name_pixels_need_no_digests(make_prior: Any, make_pictures: Any, tmp_path: Path) -> None:
    table = embed(make_prior(), make_pictures(10), tmp_path / "out", progress=False)
    assert table.info.samples is None
    assert not (table.path / RECORD).exists()
    assert check_pictures(table, image_source(make_pictures(10))).checked == 10


def test_parquet_with_names_is_watched_as_a_file(folder: Path, make_prior: Any, tmp_path: Path) -> None:
    def write(order: list[int]) -> Path:
        files = paths(folder)
        rows = [
            {"bytes": files[order[i]].read_bytes(), "path": files[i].relative_to(folder).as_posix()} for i in range(40)
        ]
        pq.write_table(pa.table({"image": rows}), tmp_path / "images.parquet")
        return tmp_path / "images.parquet"

    out, own = tmp_path / "out", list(range(40))
    embed(make_prior(), write(own), out, progress=False)
    assert changed_pictures(out, image_source(write(own))) == [], "written again, the same"
    swapped = [*own[:1], 2, 1, *own[3:]]
    assert changed_pictures(out, image_source(write(swapped))) == ["a/01.bmp", "a/02.bmp"]
