"""Comparisons of tables: what is measured, what is shown, and what a browser makes of the page."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rela_zoo.analysis import similarity
from rela_zoo.analysis.compare import PAIR_MEASURES, Comparison, SpaceSummary, compare, render_figure, render_page
from rela_zoo.cli import app
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import EmbeddingsError
from rela_zoo.transport import fit_prior_transport


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EmbeddingTable]:
    folder = tmp_path_factory.mktemp("tables")
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(400, 5, generator=generator)
    made = {}
    for name, dim, noise in (("one", 8, 0.1), ("two", 6, 0.1), ("<other>", 7, 30.0)):
        rows = shared @ torch.randn(5, dim, generator=generator) + noise * torch.randn(400, dim, generator=generator)
        made[name] = write_rows(
            folder / str(dim), [rows], [f"{i}.png" for i in range(400)], prior={"id": name}, dtype="float32"
        )
    return made


def test_every_measure_is_that_of_its_function(tables: dict[str, EmbeddingTable]) -> None:
    found = compare(tables)
    assert set(found.pairs) == set(PAIR_MEASURES)
    assert (found.samples, found.sampled) == (400, 400)
    rows = [table.rows(range(400)) for table in tables.values()]
    for i, x in enumerate(rows):
        for j, y in enumerate(rows):
            assert found.pairs["linear_cka"][i][j] == pytest.approx(similarity.linear_cka(x, y), abs=1e-9)
            assert found.pairs["pwcca"][i][j] == pytest.approx(similarity.pwcca(x, y), abs=1e-9)
    names = list(tables)
    quality = fit_prior_transport(tables[names[0]], tables[names[1]]).quality
    assert quality is not None
    assert found.pairs["transport_r2"][0][1] == quality.r2
    assert found.pairs["transport_r2"][0][1] > 0.9 > 0.3 > found.pairs["transport_r2"][0][2]
    assert found.spaces[0].effective_rank == pytest.approx(similarity.effective_rank(rows[0]))


def test_a_sample_is_the_same_for_any_order_of_rows(tables: dict[str, EmbeddingTable], tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(400)
    one = tables["one"]
    shuffled = write_rows(
        tmp_path / "s", [one.rows(order)], [one.ids[int(i)] for i in order], prior={"id": "one"}, dtype="float32"
    )
    again = compare({"one": shuffled, "two": tables["two"]}, sample=250)
    first = compare({"one": one, "two": tables["two"]}, sample=250)
    assert first.sampled == 250
    for key in ("linear_cka", "mutual_knn", "procrustes_distance"):
        np.testing.assert_allclose(again.pairs[key], first.pairs[key], atol=1e-9)


def test_few_samples_for_many_features_are_said_to_be_few(tables: dict[str, EmbeddingTable], tmp_path: Path) -> None:
    assert compare(tables).caution == ""
    wide = torch.randn(300, 40, generator=torch.Generator().manual_seed(3))
    ids = [f"{i}.png" for i in range(300)]
    many = {name: write_rows(tmp_path / name, [rows], ids, prior={"id": name}, dtype="float32")
            for name, rows in (("a", wide), ("b", wide.flip(0)))}  # fmt: skip
    found = compare(many)
    assert "300 samples are few beside 40 features" in found.caution
    assert found.caution in render_page(found, b"", "x")


def test_too_little_in_common_is_refused(tables: dict[str, EmbeddingTable], tmp_path: Path) -> None:
    other = write_rows(tmp_path / "o", [torch.randn(300, 4)], [f"x{i}" for i in range(300)], prior={"id": "o"})
    with pytest.raises(EmbeddingsError, match="too few samples in common"):
        compare({"one": tables["one"], "o": other})
    with pytest.raises(EmbeddingsError, match="nothing to compare"):
        compare({"one": tables["one"]})


def test_the_command_prints_tables_json_figure_and_page(tables: dict[str, EmbeddingTable], tmp_path: Path) -> None:
    folders = [str(table.path) for table in tables.values()]
    figure, html = tmp_path / "f.png", tmp_path / "deep" / "p.html"
    arguments = ["compare", *folders, "--figure", str(figure), "--html", str(html)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert "RankMe" in result.output
    assert "…" not in result.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    text = html.read_text()
    assert "&lt;other&gt;" in text
    assert "<other>" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    printed = CliRunner().invoke(app, ["compare", *folders, "--json"], catch_exceptions=False)
    assert json.loads(printed.output)["names"] == ["one", "two", "<other>"]


def test_what_is_not_defined_is_null_in_json() -> None:
    space = SpaceSummary(3, "x", (1.0,), math.nan, 1.0, math.nan)
    found = Comparison(("a",), (space,), {"svcca": ((math.nan,),)}, 200, 200).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["pairs"]["svcca"] == [[None]]
    assert found["spaces"][0]["effective_rank"] is None


def test_a_browser_shows_the_page(tables: dict[str, EmbeddingTable], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    found = compare(tables)
    path = tmp_path / "page.html"
    path.write_text(render_page(found, render_figure(found), "tests"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'u'}"]
    shown = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert shown.count("<table") == 1 + len(PAIR_MEASURES)
    shot = tmp_path / "shot.png"
    shoot = [f"--screenshot={shot}", "--window-size=1200,1600", path.as_uri()]
    subprocess.run([*command, *shoot], capture_output=True, timeout=120, check=True)
    from PIL import Image

    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200  # the heat maps are there, not an empty page
