"""The pipeline of an extraction: rows as an image at a time gives them, late rows, Ctrl-C, a disk that refuses."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

import rela_zoo
from rela_zoo.data import image_source
from rela_zoo.embeddings import _forward, _ring, _sizes, _writer, embed, open_embeddings
from rela_zoo.embeddings._loading import _Batches, image_loader, joined
from rela_zoo.errors import EmbeddingsError
from rela_zoo.prior import load_prior

SHARDS: dict[str, Any] = dict(shard_rows=16, batch_size=5, progress=False)


def folder_of_all_kinds(root: Path, count: int) -> Path:
    """Pictures of many sizes, grey and transparent ones among them, in JPEG and PNG."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for i in range(count):
        height, width = rng.integers(9, 90, 2)
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image = image.convert(("RGB", "L", "RGBA", "P")[i % 4])
        image.save(root / f"{i:03d}.{'png' if i % 4 > 1 else 'jpg'}")
    return root


@pytest.mark.parametrize("preprocessing", ["upstream", "rela-reference"])
def test_rows_are_bit_for_bit_those_of_images_normalised_one_by_one(tmp_path: Path, preprocessing: str) -> None:
    """As they were made before pixels went to the device as uint8."""
    data = folder_of_all_kinds(tmp_path / "data", 45)
    prior = load_prior("cifar10-resnet20", preprocessing=preprocessing)
    p = prior.transform.preprocessing

    def prepared(image: Image.Image) -> torch.Tensor:
        small = F.resize(image, [p.resize], F.InterpolationMode(p.interpolation), antialias=True)
        pixels = F.pil_to_tensor(F.center_crop(small, [p.input_size, p.input_size]))
        return F.normalize(pixels.to(torch.float32) / 255, list(p.mean), list(p.std))

    source = image_source(data)
    images = [prepared(source.image(i)) for i in range(45)]
    wanted = torch.cat([prior(torch.stack(images[a:b])) for a, b in ((0, 16), (16, 32), (32, 40), (40, 45))])
    for workers in (0, 2):
        out = tmp_path / str(workers)
        options: dict[str, Any] = {"dtype": "float32", "batch_size": 16, "shard_rows": 40, "progress": False}
        table = embed(prior, data, out, num_workers=workers, **options)
        assert torch.equal(table.rows(range(45)), wanted)


def test_workers_hand_over_bytes(tmp_path: Path) -> None:
    source, prior = image_source(folder_of_all_kinds(tmp_path / "data", 8)), load_prior("cifar10-resnet20")
    (batch,) = image_loader(source, prior.transform, [list(range(8))], 1, digests=True)
    (pixels,) = batch.pixels
    assert pixels.ready is not None
    assert pixels.ready.dtype == torch.uint8
    assert pixels.ready.shape == (8, 3, 32, 32)
    assert len(batch.digests) == 8
    read = []
    source.raw = lambda i, whole=source.raw: read.append(i) or whole(i)  # type: ignore[method-assign]
    next(iter(image_loader(source, prior.transform, [[0, 1, 2]], 0, digests=True)))
    assert read == [0, 1, 2], "each file is read once"


@pytest.mark.parametrize("name", ["cifar10-resnet20", "random-resnet18", "cifar10-resnet20@96"])
def test_left_to_the_device_images_become_the_same_pixels(tmp_path: Path, name: str) -> None:
    """Images of all sizes and modes, in pieces: those that the device resizes, and those that it can't."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (60, 40), (40, 60), (32, 32), (300, 20), (224, 256), (1200, 1000), (2, 700), (60, 40), (1, 1)]
    for i, shape in enumerate(shapes):
        kind = (*shape, 3) if i != 4 else shape
        suffix = "jpg" if i in (2, 6) else "png"
        Image.fromarray(rng.integers(0, 256, kind, dtype=np.uint8)).save(folder / f"{i}.{suffix}")
    (folder / "4a.png").write_bytes(b"no picture")
    transform, source = load_prior(name).transform, image_source(folder)
    parts = [[0, 1, 2, 3], [4, 5, 6], [7, 8], [9, 10]]
    found = joined(list(image_loader(source, transform, parts, 0, digests=True)))
    left = _Batches(source, transform, True, True)
    given = joined([left[one] for one in enumerate(parts)])
    assert (given.asked, given.positions, given.digests) == (found.asked, found.positions, found.digests)
    assert set(given.errors) == set(found.errors) == {5}
    made = torch.cat([one.resized(transform) for one in given.pixels])
    assert torch.equal(made, torch.cat([one.resized(transform) for one in found.pixels]))
    whole = [shape for one in given.pixels for shape in one.shapes]
    assert len([shape for shape in whole if shape is not None]) >= 6
    assert None in whole, "a large image is not handed over whole"


def test_workers_write_whole_images_into_places_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU, but for pinning: each batch is read before a place is written to again, however slow the reader."""
    source = image_source(folder_of_all_kinds(tmp_path / "data", 60))
    transform = load_prior("cifar10-resnet20@40").transform
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    parts = [list(range(first, min(first + 4, 60))) for first in range(0, 60, 4)]
    loader = image_loader(source, transform, parts, 2, digests=False, on_gpu=True)
    ring = loader.dataset._ring  # type: ignore[attr-defined]
    assert len(ring) == 5 < len(parts)
    loader.pin_memory = False  # which asks for a GPU; done here in its place
    made = []
    for batch in loader:
        assert any(isinstance(one.whole, _ring.Written) for one in batch.pixels)
        time.sleep(0.01)
        made += [one.pin_memory().resized(transform) for one in batch.pixels]
    assert torch.equal(torch.cat(made), torch.stack([transform.pixels(source.image(i)) for i in range(60)]))


class Late(_forward.Forward):
    """Rows a batch late on a CPU, too."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.late = 1


class TestLate:
    @pytest.fixture(autouse=True)
    def late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_forward, "Forward", Late)

    def test_the_same_bytes(self, tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any) -> None:
        embed(make_prior(), make_pictures(50), tmp_path / "late", **SHARDS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_forward, "Forward", Late.__base__)
            embed(make_prior(), make_pictures(50), tmp_path / "plain", **SHARDS)
        assert files_of(tmp_path / "late") == files_of(tmp_path / "plain")

    @pytest.mark.parametrize("where", ["the model", "the rows"])
    def test_ctrl_c_loses_no_shard(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any, where: str, monkeypatch: Any
    ) -> None:
        """Stopped when the last batch of the second shard has been started and not been taken back."""

        class Impatient(make_prior):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                if where == "the model" and self.calls == 8:
                    raise KeyboardInterrupt
                return super().forward(x)

        taken, wait = [], _forward.Started.wait

        def impatient(started: Any) -> Any:
            taken.append(started.batch.asked[0])
            if where == "the rows" and len(taken) == 8:
                raise KeyboardInterrupt
            return wait(started)

        monkeypatch.setattr(_forward.Started, "wait", impatient)
        with pytest.raises(KeyboardInterrupt):
            embed(Impatient(), make_pictures(50), tmp_path / "out", **SHARDS)
        assert sorted(one.name for one in (tmp_path / "out").glob("shard*")) == [
            "shard-00000.safetensors",
            "shard-00001.safetensors",
        ]
        embed(make_prior(), make_pictures(50), tmp_path / "out", **SHARDS)
        embed(make_prior(), make_pictures(50), tmp_path / "undisturbed", **SHARDS)
        assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")

    def test_a_mistake_is_told_of_the_right_image(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        class Broken(make_prior):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                rows = super().forward(x)
                if self.calls == 3:
                    rows[1] = float("nan")
                return rows

        data = make_pictures(50)
        with pytest.raises(EmbeddingsError, match="NaN") as caught:
            embed(Broken(), data, tmp_path, **SHARDS)
        assert image_source(data).ids[11] in str(caught.value)


class TestWriter:
    def test_a_disk_that_refuses_ends_the_run(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch, files_of: Any
    ) -> None:
        real = _writer.write_shard

        def full(folder: Path, plan: Any, number: int, *rest: Any) -> Any:
            if number == 1:
                raise EmbeddingsError("no room", fix="free some space")
            return real(folder, plan, number, *rest)

        monkeypatch.setattr(_writer, "write_shard", full)
        prior = make_prior(delay=0.01)
        with pytest.raises(EmbeddingsError, match="no room"):
            embed(prior, make_pictures(400), tmp_path / "out", **SHARDS)
        assert prior.calls < 40, "no more is computed in vain than what waits in the queue"
        assert [one.name for one in (tmp_path / "out").glob("shard*")] == ["shard-00000.safetensors"]
        monkeypatch.setattr(_writer, "write_shard", real)
        embed(make_prior(), make_pictures(400), tmp_path / "out", **SHARDS)
        embed(make_prior(), make_pictures(400), tmp_path / "plain", **SHARDS)
        assert files_of(tmp_path / "out") == files_of(tmp_path / "plain")

    def test_one_that_refuses_the_last_shard(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> Any:
            raise OSError("no room")

        monkeypatch.setattr(_writer, "write_shard", full)
        with pytest.raises(OSError, match="no room"):
            embed(make_prior(), make_pictures(10), tmp_path, **SHARDS)
        assert not (tmp_path / "index.json").exists()

    def test_memory_is_bounded_where_the_disk_is_slow(
        self, tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, ahead = _writer.write_shard, []
        prior = make_prior()

        def slow(folder: Path, plan: Any, number: int, *rest: Any) -> Any:
            time.sleep(0.05)
            ahead.append(prior.calls / 4 - number)  # 4 batches a shard
            return real(folder, plan, number, *rest)

        monkeypatch.setattr(_writer, "write_shard", slow)
        embed(prior, make_pictures(160), tmp_path, **SHARDS)
        # One being written, two waiting, one that wants to, one being made.
        assert len(ahead) == 10
        assert max(ahead) <= 5


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_ctrl_c_on_a_terminal_reaches_workers_too(tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
    driver = Path(__file__).with_name("kill_driver.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(rela_zoo.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(driver), "slow", str(tmp_path)],
        env=environment, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "shard-00001.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert not (tmp_path / "index.json").exists()
    embed(make_prior(), make_pictures(50), tmp_path, **SHARDS)
    assert len(open_embeddings(tmp_path, verify="full")) == 50


class TestSizes:
    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def of(cores: int, memory: int | None = None, shared: int | None = None, method: str = "fork") -> None:
            monkeypatch.setattr(_sizes, "usable_cores", lambda: cores)
            monkeypatch.setattr(_sizes, "free_memory", lambda: memory)
            monkeypatch.setattr(_sizes, "free_shared_memory", lambda: shared)
            monkeypatch.setattr(_sizes, "start_method", lambda: method)

        return of

    def workers(self, data: Any, device: str, batch_size: int = 32, batches: int = 1000) -> int:
        transform = load_prior("cifar10-resnet20").transform
        return _sizes.choose_workers(torch.device(device), image_source(data), transform, batch_size, batches)

    def test_by_cores(self, tmp_path: Path, machine: Any) -> None:
        folder = folder_of_all_kinds(tmp_path / "data", 2)
        for cores, on_cpu, on_gpu in ((1, 0, 0), (2, 1, 2), (4, 2, 4), (16, 8, 16), (256, 32, 32)):
            machine(cores)
            assert (self.workers(folder, "cpu"), self.workers(folder, "cuda")) == (on_cpu, on_gpu)
        assert self.workers(folder, "cpu", batches=3) == 0, "not worth a process"

    def test_by_memory(self, tmp_path: Path, machine: Any) -> None:
        folder = folder_of_all_kinds(tmp_path / "data", 2)
        small, large = (3 * 64 * 3 * pixels for pixels in (32 * 32, 1 << 19))  # a GPU is given images as they are
        machine(16, memory=1 << 40, shared=2 * 5 * small)
        assert [self.workers(folder, device, 64) for device in ("cpu", "cuda")] == [5, 5]
        machine(16, memory=2 * 5 * large, shared=1 << 40)
        assert [self.workers(folder, device, 64) for device in ("cpu", "cuda")] == [8, 5]
        machine(16, memory=1 << 20)
        assert self.workers(folder, "cuda", batch_size=256) == 0

    def test_by_how_processes_start(self, tmp_path: Path, machine: Any, make_pictures: Any) -> None:
        folder = folder_of_all_kinds(tmp_path / "data", 2)
        machine(8, method="spawn")
        assert self.workers(folder, "cpu") == 4
        assert self.workers(folder, "cpu", batches=20) == 0
        assert self.workers(make_pictures(2), "cpu") == 0, "an array would be sent to each"

    def test_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert {_sizes.choose_batch_size(torch.device("cpu"), side) for side in (32, 224, 518)} == {32}
        for free, sizes in ((80 << 30, [1024, 256, 128, 32]), (2 << 30, [1024, 16, 16, 4])):
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
            assert [_sizes.choose_batch_size(torch.device("cuda"), side) for side in (32, 224, 256, 518)] == sizes

    def test_a_choice_of_ones_own(self, tmp_path: Path, make_prior: Any, make_pictures: Any, machine: Any) -> None:
        machine(8)
        profile = rela_zoo.embeddings.Profile()
        options = {**SHARDS, "batch_size": 7}
        embed(make_prior(), make_pictures(20), tmp_path, num_workers=2, profile=profile, **options)
        assert (profile.num_workers, profile.batch_size) == (2, 7)


class TestPrecision:
    def test_is_kept_with_the_rows_and_not_mixed(self, tmp_path: Path, said: Any) -> None:
        data, prior = folder_of_all_kinds(tmp_path / "data", 20), load_prior("cifar10-resnet20")
        full = embed(prior, data, tmp_path / "32", progress=False)
        lower = embed(prior, data, tmp_path / "bf16", precision="bf16", progress=False)
        assert prior.computes_in is None
        assert "precision" not in full.info.prior
        assert lower.info.prior == {**full.info.prior, "precision": "bf16"}
        assert "cosine" in str(said)
        assert not torch.equal(full.rows(range(20)), lower.rows(range(20)))
        near = torch.nn.functional.cosine_similarity(full.rows(range(20)).float(), lower.rows(range(20)).float())
        assert near.min() > 0.999
        rela_zoo.prior.check_same_prior(full.info.identity, lower.info.identity, "other", error=EmbeddingsError)
        with pytest.raises(EmbeddingsError, match=r"prior\.precision differs"):
            embed(prior, data, tmp_path / "32", precision="bf16", progress=False)

    def test_that_changes_rows_is_refused(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        class Delicate(make_prior):  # type: ignore[misc]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                rows = super().forward(x)
                return rows - rows.round() if torch.is_autocast_enabled("cpu") else rows

        with pytest.raises(EmbeddingsError, match=r"(?s)changes the rows.*--precision 32"):
            embed(Delicate(), make_pictures(20), tmp_path, precision="bf16", progress=False)

    def test_that_there_is_not(self, tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
        with pytest.raises(EmbeddingsError, match="precision"):
            embed(make_prior(), make_pictures(20), tmp_path, precision="8", progress=False)  # type: ignore[arg-type]


def test_a_source_that_makes_images_its_own_way(tmp_path: Path, make_prior: Any) -> None:
    """`image` overridden, `image_of` not: the bytes alone don't say what the picture is."""
    from rela_zoo.data import ImageSource

    class Own(ImageSource):
        ids = [str(i) for i in range(6)]  # noqa: RUF012

        def raw(self, index: int) -> bytes:
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8), (index, 0, 0)).save(buffer, "PNG")
            return buffer.getvalue()

        def image(self, index: int) -> Image.Image:
            return Image.new("RGB", (8, 8), (0, 255, 0))

        def describe(self) -> str:
            return "own"

    table = embed(make_prior(), Own(), tmp_path, dtype="float32", progress=False)
    torch.testing.assert_close(table.rows(range(6)), torch.arange(4.0, 8.0).expand(6, 4))
