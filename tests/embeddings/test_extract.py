"""Extraction: the right rows whatever the batches and workers, and every mistake named."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rela_zoo.data import image_source
from rela_zoo.embeddings import embed, open_embeddings
from rela_zoo.errors import EmbeddingsError


def test_rows_are_the_outputs_of_the_prior(tmp_path: Path, make_prior: Any, make_folder: Any) -> None:
    make_folder(tmp_path / "data", {"a": 7, "b": 6})
    prior = make_prior()
    table = embed(prior, tmp_path / "data", tmp_path / "out", dtype="float32", batch_size=4, progress=False)
    source = image_source(tmp_path / "data")
    assert list(table.ids) == list(source.ids)
    one_by_one = torch.cat([prior(prior.transform(source.image(i))[None]) for i in range(13)])
    torch.testing.assert_close(table.rows(range(13)), one_by_one)
    assert table.info.prior == prior.identity()
    assert (table.info.layer, table.info.preprocessing) == ("mean", "upstream")


def test_bytes_do_not_depend_on_batches_or_workers(
    tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    prior = make_prior()
    if multiprocessing.get_start_method() != "fork":  # a worker then has to import the transform
        from torchvision import transforms

        prior.transform = transforms.ToTensor()
    data = make_pictures(40)
    for name, options in {
        "a": {"batch_size": 5},
        "b": {"batch_size": 7, "num_workers": 2},
        "c": {"batch_size": 1000},
    }.items():
        embed(prior, data, tmp_path / name, shard_rows=16, progress=False, **options)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == files_of(tmp_path / "c")
    assert sorted(files_of(tmp_path / "a")) == [
        "ids.jsonl",
        "index.json",
        *(f"shard-{i:05d}.safetensors" for i in range(3)),
    ]


def test_batches_never_cross_a_shard(tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
    class Watched(make_prior):  # type: ignore[misc]
        sizes: list[int] = []  # noqa: RUF012

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(x))
            return super().forward(x)

    embed(Watched(), make_pictures(40), tmp_path, shard_rows=16, batch_size=10, progress=False)
    assert Watched.sizes == [10, 6, 10, 6, 8]


def test_a_finished_folder_is_opened_without_the_prior_running(
    tmp_path: Path, make_prior: Any, make_pictures: Any
) -> None:
    first = embed(make_prior(), make_pictures(10), tmp_path, progress=False)
    prior = make_prior()
    again = embed(prior, make_pictures(10), tmp_path, batch_size=3, progress=False)
    assert prior.calls == 0
    assert again.digest == first.digest


def test_parquet_in_workers(tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    if multiprocessing.get_start_method() != "fork":
        pytest.skip("the transform of the test's prior can't be imported by a worker")
    stack, rows = make_pictures(20), []
    for pixels in stack:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "x.parquet", row_group_size=3)
    a = embed(make_prior(), tmp_path / "x.parquet", tmp_path / "a", num_workers=2, batch_size=4, progress=False)
    b = embed(make_prior(), stack, tmp_path / "b", batch_size=4, progress=False)
    assert a.digest == b.digest  # the same pixels under the same ids


class TestUndecodable:
    @pytest.fixture
    def data(self, tmp_path: Path, make_folder: Any) -> Path:
        make_folder(tmp_path / "data", {"a": 20})
        for i in (3, 9, 17):
            (tmp_path / "data" / "a" / f"{i:03d}.png").write_bytes(b"no picture")
        return tmp_path / "data"

    def test_is_an_error_that_names_it(self, tmp_path: Path, data: Path, make_prior: Any) -> None:
        with pytest.raises(EmbeddingsError, match=r"a/003\.png can't be decoded"):
            embed(make_prior(), data, tmp_path / "out", progress=False)

    def test_or_a_listed_skip(self, tmp_path: Path, data: Path, make_prior: Any, files_of: Any) -> None:
        options: dict[str, Any] = {"shard_rows": 8, "batch_size": 3, "progress": False}
        table = embed(make_prior(), data, tmp_path / "out", on_error="skip", **options)
        bad = ["a/003.png", "a/009.png", "a/017.png"]
        source = image_source(data)
        assert list(table.info.skipped) == bad
        assert list(table.ids) == [one for one in source.ids if one not in bad]
        assert [shard.rows for shard in table.info.shards] == [7, 7, 3]
        prior = make_prior()
        row = prior(prior.transform(source.image(18))[None]).half()[0]
        assert torch.equal(table.rows(table.positions(["a/018.png"]))[0], row)
        open_embeddings(tmp_path / "out", verify="full")

        # going on after a stop keeps what was left out before it
        class Impatient(make_prior):  # type: ignore[misc]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if self.calls == 4:
                    raise KeyboardInterrupt
                return super().forward(x)

        with pytest.raises(KeyboardInterrupt):
            embed(Impatient(), data, tmp_path / "again", on_error="skip", **options)
        with pytest.raises(EmbeddingsError, match="leaves out 1 images"):
            embed(make_prior(), data, tmp_path / "again", **options)
        embed(make_prior(), data, tmp_path / "again", on_error="skip", **options)
        assert files_of(tmp_path / "again") == files_of(tmp_path / "out")
        with pytest.raises(EmbeddingsError, match="leaves out 3 images"):
            embed(make_prior(), data, tmp_path / "out", **options)

    def test_a_whole_shard_of_them(self, tmp_path: Path, data: Path, make_prior: Any) -> None:
        for i in range(8, 12):
            (data / "a" / f"{i:03d}.png").write_bytes(b"")
        table = embed(make_prior(), data, tmp_path / "out", shard_rows=4, on_error="skip", progress=False)
        assert [shard.rows for shard in table.info.shards] == [3, 4, 0, 4, 3]
        assert table.rows(range(14)).shape == torch.cat(list(table.iter_rows(5))).shape == (14, 4)
        open_embeddings(tmp_path / "out", verify="full")

    def test_nothing_but_them(self, tmp_path: Path, make_prior: Any) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "x.png").write_bytes(b"")
        with pytest.raises(EmbeddingsError, match="none of the 1 images"):
            embed(make_prior(), tmp_path / "data", tmp_path / "out", on_error="skip", progress=False)


class TestOutputs:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_not_finite(self, tmp_path: Path, make_prior: Any, make_pictures: Any, bad: float) -> None:
        class Broken(make_prior):  # type: ignore[misc]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                rows = super().forward(x)
                rows[2, 1] = bad
                return rows

        data = make_pictures(5)
        with pytest.raises(EmbeddingsError, match="NaN or infinity for 1 of 5") as caught:
            embed(Broken(), data, tmp_path, progress=False)
        assert image_source(data).ids[2] in str(caught.value)

    def test_too_large_for_float16(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        data = make_pictures(5)
        with pytest.raises(EmbeddingsError, match=r"too large for float16(.|\n)*--dtype float32"):
            embed(make_prior(scale=1e5), data, tmp_path / "a", progress=False)
        assert (
            embed(make_prior(scale=1e5), data, tmp_path / "b", dtype="float32", progress=False).rows([0]).max() > 65504
        )

    def test_of_another_width(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        prior = make_prior()
        prior.dim = 5
        with pytest.raises(EmbeddingsError, match="another shape"):
            embed(prior, make_pictures(5), tmp_path, progress=False)

    def test_images_of_different_shapes(self, tmp_path: Path, make_prior: Any) -> None:
        from PIL import Image

        prior = make_prior()
        prior.transform = lambda image: torch.zeros(3, *image.size)
        for i in (1, 2):
            Image.new("RGB", (i, i)).save(tmp_path / f"{i}.png")
        with pytest.raises(EmbeddingsError, match="different shapes"):
            embed(prior, tmp_path, tmp_path / "out", progress=False)


class TestSurroundings:
    def test_global_state_is_left_alone(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        prior = make_prior().train()
        torch.manual_seed(1)
        before = torch.get_rng_state()
        embed(prior, make_pictures(5), tmp_path, num_workers=1, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        assert prior.training

    def test_the_prior_runs_in_evaluation_mode_and_full_precision(self, tmp_path: Path, make_pictures: Any) -> None:
        class Moody(nn.Module):
            dim, preprocessing = 192, "upstream"
            transform = staticmethod(lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).float())

            def __init__(self) -> None:
                super().__init__()
                self.drop, self.line = nn.Dropout(0.5), nn.Linear(192, 192)

            def identity(self) -> dict[str, str | int]:
                return {"id": "moody"}

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.line(self.drop(x.flatten(1)))

        prior, data = Moody(), make_pictures(3)
        with torch.autocast("cpu", torch.bfloat16):
            table = embed(prior, data, tmp_path, dtype="float32", progress=False)  # type: ignore[arg-type]
        x = torch.from_numpy(data).permute(0, 3, 1, 2).float().flatten(1)
        torch.testing.assert_close(table.rows(range(3)), prior.line(x).detach())

    def test_too_little_disk(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 5, 5))
        prior = make_prior()
        with pytest.raises(EmbeddingsError, match=r"not enough free disk(.|\n)*0\.00 GB available"):
            embed(prior, make_pictures(5), tmp_path, progress=False)
        assert prior.calls == 0

    def test_a_folder_of_something_else(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        (tmp_path / "thesis.tex").write_text("…")
        with pytest.raises(EmbeddingsError, match=r"not empty(.|\n)*thesis\.tex"):
            embed(make_prior(), make_pictures(2), tmp_path, progress=False)
        with pytest.raises(EmbeddingsError, match="can't be used"):
            embed(make_prior(), make_pictures(2), tmp_path / "thesis.tex", progress=False)
        assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]

    def test_bad_arguments_are_named_together(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        with pytest.raises(EmbeddingsError, match="dtype and batch_size and on_error"):
            embed(
                make_prior(), make_pictures(2), tmp_path / "out", dtype="int8", batch_size=0, on_error="ignore"  # type: ignore[arg-type]
            )  # fmt: skip
        with pytest.raises(EmbeddingsError, match="device"):
            embed(make_prior(), make_pictures(2), tmp_path / "out", device="quantum")

    def test_a_name_is_loaded(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "rela_zoo.prior", SimpleNamespace(load_prior=make_prior))  # type: ignore[arg-type]
        assert embed("some-name", make_pictures(2), tmp_path, progress=False).info.prior["id"] == "some-name"


class TestProgress:
    def test_quiet_when_nobody_watches(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        embed(make_prior(), make_pictures(5), tmp_path)
        assert capsys.readouterr() == ("", "")

    def test_lines_when_asked_for(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        embed(make_prior(), make_pictures(5), tmp_path, progress="always")
        said = capsys.readouterr()
        assert said.out == ""
        assert "5/5" in said.err
        assert "images/s" in said.err
        assert "s left" in said.err

    def test_a_bar_on_a_terminal(
        self,
        tmp_path: Path,
        make_prior: Any,
        make_pictures: Any,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TERM", "xterm")
        embed(make_prior(delay=0.05), make_pictures(30), tmp_path, batch_size=5)
        said = capsys.readouterr()
        assert said.out == ""
        assert "30/30" in said.err
        assert "images/s" in said.err
