"""The pipeline on a GPU: the rows of a CPU, nothing waited for a batch, the prior put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.data import image_source
from rela_zoo.embeddings import Profile, embed
from rela_zoo.embeddings._forward import on_device
from rela_zoo.embeddings._loading import image_loader
from rela_zoo.prior import load_prior

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_rows_are_those_of_a_cpu(tmp_path: Path, make_folder: Any) -> None:
    make_folder(tmp_path / "data", {"a": 300})
    prior = load_prior("cifar10-resnet20")
    options: dict[str, Any] = {"shard_rows": 100, "dtype": "float32", "batch_size": 32, "progress": False}
    profile = Profile()
    gpu = embed(prior, tmp_path / "data", tmp_path / "gpu", device="cuda", profile=profile, **options)
    cpu = embed(prior, tmp_path / "data", tmp_path / "cpu", device="cpu", **options)
    near = torch.nn.functional.cosine_similarity(gpu.rows(range(300)), cpu.rows(range(300)))
    assert near.min() > 0.9999
    assert next(prior.parameters()).device.type == "cpu"
    assert profile.images == 300
    assert min(profile.copy, profile.model) > 0
    assert profile.limit is not None


def test_normalised_to_the_same_bits() -> None:
    transform = load_prior("cifar10-resnet20").transform
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3 * 4).view(1, 3, 32, 32)
    assert torch.equal(transform.normalise(pixels.cuda()).cpu(), transform.normalise(pixels))


@pytest.mark.parametrize("name", ["cifar10-resnet20", "random-resnet18"])
def test_a_batch_is_started_without_a_wait(tmp_path: Path, make_folder: Any, name: str) -> None:
    make_folder(tmp_path / "data", {"a": 96})
    prior, device = load_prior(name), torch.device("cuda")
    source = image_source(tmp_path / "data")
    parts = [list(range(first, first + 32)) for first in (0, 32, 64)]
    batches = list(image_loader(source, prior.transform, parts, 0, digests=False, on_gpu=True))
    assert all(tensor.is_pinned() for one in batches for part in one.pixels for tensor in part.tensors())
    with on_device(prior, device) as forward:
        forward.start(batches[0]).wait()  # constants and kernels are there from now on
        torch.cuda.set_sync_debug_mode("error")
        try:
            started = [forward.start(one) for one in batches[1:]]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        rows = torch.cat([one.wait().rows for one in started])
        images = torch.stack([prior.transform(source.image(i)) for i in range(32, 96)]).cuda()
        assert torch.equal(torch.cat([one.images for one in started]), images)
        torch.testing.assert_close(rows, prior(images).cpu(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_lower_precision(tmp_path: Path, make_folder: Any, precision: Any) -> None:
    make_folder(tmp_path / "data", {"a": 64})
    prior = load_prior("cifar10-resnet20")
    table = embed(prior, tmp_path / "data", tmp_path / "out", device="cuda", precision=precision, progress=False)
    assert table.info.prior["precision"] == precision


def test_compiled(tmp_path: Path, make_folder: Any) -> None:
    make_folder(tmp_path / "data", {"a": 100})
    options: dict[str, Any] = {"shard_rows": 100, "dtype": "float32", "batch_size": 32, "progress": False}
    profile = Profile()
    prior, where = load_prior("cifar10-resnet20"), {"device": "cuda", **options}
    compiled = embed(prior, tmp_path / "data", tmp_path / "compiled", compile=True, profile=profile, **where)
    plain = embed(prior, tmp_path / "data", tmp_path / "plain", **where)
    near = torch.nn.functional.cosine_similarity(compiled.rows(range(100)), plain.rows(range(100)))
    assert near.min() > 0.99999
