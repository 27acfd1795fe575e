"""A prior through torch's compiler: the same rows, for all batches, and the prior as it is where that fails."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.embeddings import Profile, _compiled, agreement, embed, embed_part
from rela_zoo.prior import load_prior

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler"
)
ROWS: dict[str, Any] = {"shard_rows": 40, "dtype": "float32", "progress": False, "device": "cpu"}


@pytest.fixture
def data(tmp_path: Path, make_folder: Any) -> Path:
    make_folder(tmp_path / "data", {"a": 90})
    return tmp_path / "data"


@needs_compiler
def test_the_same_rows(tmp_path: Path, data: Path, files_of: Any) -> None:
    """Shards of 32 + 8, 32 + 8 and 10 images; then by parts, which go on compiled in the same process and in others."""
    prior, profile = load_prior("cifar10-resnet20"), Profile()
    plain = embed(prior, data, tmp_path / "plain", compile=False, **ROWS)
    whole = embed(prior, data, tmp_path / "whole", compile=True, profile=profile, **ROWS)
    assert profile.compiling is not None
    assert profile.compiling > profile.model
    assert "compiled in" in profile.table()
    assert "--compile" not in profile.advice()
    rows, others = whole.rows(range(90)), plain.rows(range(90))
    assert ((rows - others).norm(dim=1) <= 2e-5 * others.norm(dim=1)).all()
    # It is no other prior.
    assert whole.info.prior == plain.info.prior
    for part in ((1, 2), (2, 2)):
        table = embed_part(prior, data, tmp_path / "parts", part, compile=True, num_workers=1, **ROWS)
    assert table is not None
    assert torch.equal(table.rows(range(90)), rows)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def _compiler(result: Any) -> Any:
    def compile(prior: Any, **options: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return lambda images: result(prior(images))

    return compile


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (RuntimeError("no C++ compiler\nhere"), "not compiled: RuntimeError: no C++ compiler"),
        (lambda rows: rows * 1.001, "move rows by 0.001 of them"),
        (lambda rows: rows * float("nan"), "move rows by nan of them"),
    ],
)
def test_goes_on_as_it_is_where_it_cannot_be_compiled(
    result: Any, why: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, files_of: Any
) -> None:
    monkeypatch.setattr(torch, "compile", _compiler(result))
    profile = Profile()
    embed("cifar10-resnet20", data, tmp_path / "a", compile=True, profile=profile, **ROWS)
    assert why in caplog.text
    assert profile.compiling == 0
    assert "compile" not in profile.table(), "nor is it advised"
    embed("cifar10-resnet20", data, tmp_path / "b", compile=False, **ROWS)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_batches_are_filled_up_and_cut_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def noted(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(torch, "compile", _compiler(noted))
    compiled, images = _compiled.Compiled(4), torch.rand(4, 3, 8, 8)
    for count in (4, 1, 3):
        assert torch.equal(compiled(lambda x: x.mean((2, 3)), images[:count]), images[:count].mean((2, 3)))
    assert sizes == [4] * 4


def test_where_nobody_says_only_much_work_is_compiled(make_prior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "usable_cores", lambda: 4)
    prior, cpu = load_prior("cifar10-resnet20"), torch.device("cpu")  # 0.04055 · 10⁹ multiply-adds an image
    assert [_compiled.pays(prior, images, cpu) for images in (50, 980_000, 990_000)] == [False, False, True]
    assert not _compiled.pays(prior, 990_000, torch.device("cuda"))
    assert not _compiled.pays(load_prior("random-vit_tiny_patch16_224"), 990_000, cpu), "gains little"
    assert not _compiled.pays(make_prior(), 990_000, cpu), "nothing is known of what it costs"


def test_any_number_of_priors_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one function torch compiles eight variants, and says no more than a warning of its own of the ninth."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    prior = load_prior("cifar10-resnet20")
    for size in range(8, 19):
        compiled = _compiled.Compiled(2)
        with torch.inference_mode():  # as there; other tensors are another variant
            images = torch.rand(2, 3, size, size)
            assert torch.equal(compiled(prior, images), prior(images))
            compiled(prior, images[:1])
        assert compiled.works
    assert len(graphs) == 11


def test_lower_precision_is_held_against_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", _compiler(lambda rows: rows))
    prior, images = load_prior("cifar10-resnet20"), torch.rand(2, 3, 32, 32)
    seen = []
    monkeypatch.setattr(_compiled, "agreement", lambda *rows: seen.append(rows) or agreement(*rows))
    prior.computes_in = torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        rows = _compiled.Compiled(2)(prior, images)
    assert prior.computes_in is torch.bfloat16
    prior.computes_in = None
    ((lower, full),) = seen
    assert torch.equal(lower, rows)
    assert torch.equal(full, prior(images))
    assert not torch.equal(lower, full)
