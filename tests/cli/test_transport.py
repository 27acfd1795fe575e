"""`rela-zoo transport` between priors, as a shell sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.embeddings import open_embeddings, write_rows
from rela_zoo.errors import TransportError
from rela_zoo.transport import PriorTransport


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(500, 4, generator=generator)
    for name, dim in (("a", 6), ("b", 8), ("c", 5)):
        rows = shared @ torch.randn(4, dim, generator=generator) + 0.1 * torch.randn(500, dim, generator=generator)
        write_rows(tmp_path / name, [rows], [f"{i}.png" for i in range(500)], prior={"id": name})
    return tmp_path


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["transport", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_fit_show_apply_and_chain(tables: Path) -> None:
    ab, bc, ac = (tables / f"{name}.safetensors" for name in ("ab", "bc", "ac"))
    facts = json.loads(_run("fit", tables / "a", tables / "b", "--out", ab, "--json"))
    assert (facts["source"], facts["target"], facts["source_dim"], facts["target_dim"]) == ("a", "b", 6, 8)
    assert facts["r2"] > 0.9
    assert json.loads(_run("show", ab, "--json")) == facts
    assert "retrieval at 1" in _run("show", ab)
    _run("fit", tables / "b", tables / "c", "--out", bc, "--method", "whitened")
    chained = json.loads(_run("chain", ab, bc, tables / "a", tables / "c", "--out", ac, "--json"))
    assert chained["lost_r2"] == pytest.approx(chained["direct_r2"] - chained["r2"])
    assert "500 × 8" in _run("apply", ab, tables / "a", "--out", tables / "a-as-b")
    moved = open_embeddings(tables / "a-as-b")
    torch.testing.assert_close(
        moved.rows(range(9)), PriorTransport.load(ab)(open_embeddings(tables / "a").rows(range(9)))
    )
    assert list(moved.ids) == list(open_embeddings(tables / "a").ids)


def test_one_table_gives_a_target_transport(tables: Path) -> None:
    out = tables / "t.safetensors"
    assert json.loads(_run("fit", tables / "a", "--out", out, "--json"))["components"] == 6
    assert json.loads(_run("show", out, "--json"))["prior"] == "a"
    assert "500 × 3" in _run("apply", out, tables / "a", "--out", tables / "targets", "--dim", 3)


def test_mistakes_are_named(tables: Path) -> None:
    ab = tables / "ab.safetensors"
    with pytest.raises(TransportError, match="ridge, procrustes, whitened"):
        _run("fit", tables / "a", tables / "b", "--out", ab, "--method", "magic")
    _run("fit", tables / "a", tables / "b", "--out", ab)
    with pytest.raises(TransportError, match=r"(?s)is not for the embeddings.*id differ.*id b.*id a"):
        _run("apply", ab, tables / "b", "--out", tables / "x")
