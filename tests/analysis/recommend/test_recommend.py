"""Scores before training: against dense, slow formulas; rankings; the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from typer.testing import CliRunner

from rela_zoo.analysis.recommend import Assessment, h_score, labels_of, log_me, ranked, survey
from rela_zoo.cli import app
from rela_zoo.data import image_source
from rela_zoo.errors import EmbeddingsError


def _classes(n: int, d: int, seed: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return generator.normal(size=(n, d)) + apart * generator.normal(size=(3, d))[y] + 0.5, y


def _slow_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """The log evidence of a Bayesian linear model, as the density of y under its marginal normal, maximised."""

    def negative(logs: np.ndarray) -> float:
        a, b = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(len(y)) / b + x @ x.T / a
        _, log_det = np.linalg.slogdet(covariance)
        return float(0.5 * (len(y) * math.log(2 * math.pi) + log_det + y @ np.linalg.solve(covariance, y)))

    starts = [np.array([p, q]) for p in (-2.0, 2.0) for q in (0.0, 3.0)]
    return -min(
        minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).fun for start in starts
    )


@pytest.mark.parametrize("shape", [(40, 5), (12, 20)])
def test_log_me_is_the_best_evidence_of_a_linear_model(shape: tuple[int, int]) -> None:
    x, y = _classes(*shape, seed=1, apart=1.0)
    slow = np.mean([_slow_evidence(x, (y == one).astype(float)) for one in range(3)]) / len(y)
    assert log_me(x, y) == pytest.approx(slow, abs=1e-4)


def test_h_score_is_the_trace_of_its_definition() -> None:
    x, y = _classes(60, 4, seed=2, apart=1.0)
    centred = x - x.mean(0)
    covariance = sum(np.outer(row, row) for row in centred) / 60
    # Ledoit and Wolf 2004, section 3.3, written out; d², b² and the mean variance m.
    m = np.trace(covariance) / 4
    d2 = ((covariance - m * np.eye(4)) ** 2).sum()
    b2 = min(sum(((np.outer(row, row) - covariance) ** 2).sum() for row in centred) / 60**2, d2)
    alpha = b2 / d2
    shrunken = (1 - alpha) * covariance + alpha * m * np.eye(4)
    means = np.array([centred[y == one].mean(0) for one in y])
    between = sum(np.outer(row, row) for row in means) / 60
    slow = (1 - alpha) * np.trace(np.linalg.inv(shrunken) @ between)
    assert h_score(x, y) == pytest.approx(slow, abs=1e-10)
    assert 0 < slow < 2


def test_h_score_is_not_at_its_maximum_for_noise_in_many_dimensions() -> None:
    noise = np.random.default_rng(0).normal(size=(60, 200))
    assert h_score(noise, np.arange(60) % 3) < 0.5
    assert h_score(np.ones((60, 3)), np.arange(60) % 3) == 0


def test_classes_that_lie_apart_score_higher() -> None:
    near, far = _classes(90, 6, 3, 0.2), _classes(90, 6, 3, 3.0)
    assert log_me(*far) > log_me(*near)
    assert h_score(*far) > h_score(*near)


def test_what_cannot_be_scored_is_refused() -> None:
    x, y = _classes(30, 4, 0, 1.0)
    for score in (log_me, h_score):
        with pytest.raises(ValueError, match="two classes"):
            score(x, np.zeros(30, int))
        with pytest.raises(ValueError, match="finite"):
            score(np.full_like(x, np.nan), y)
        with pytest.raises(ValueError, match="labels"):
            score(x, y[:-1])


def test_labels_are_the_folders_of_ids() -> None:
    assert labels_of(["b/1.png", "a/x/2.png", "b/3.png"]).tolist() == [1, 0, 1]
    with pytest.raises(EmbeddingsError, match="no labels"):
        labels_of(["1.png", "2.png"])


def test_ranking_goes_by_labels_where_there_are_any() -> None:
    def made(name: str, **scores: float) -> Assessment:
        return Assessment(name, 4, scores, 1.0, 1.0, 1)

    plain = [made("a", rank_me=3.0, stability=0.5), made("b", rank_me=5.0, stability=0.9)]
    assert [(one.prior, rank) for one, rank in ranked(plain)] == [("b", 1.0), ("a", 2.0)]
    labelled = [made("a", rank_me=3.0, knn=0.9, probe=0.8), made("b", rank_me=5.0, knn=0.9, probe=0.7)]
    assert [(one.prior, rank) for one, rank in ranked(labelled)] == [("a", 1.25), ("b", 1.75)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(120):
        kind = number % 3
        (folder / f"class{kind}").mkdir(exist_ok=True)
        pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
        pixels[8 * kind : 8 * kind + 12, :, kind] = 250
        Image.fromarray(pixels).save(folder / f"class{kind}" / f"{number}.png")
    return folder


def test_the_command_ranks_and_writes_a_config_that_composes(pictures: Path, tmp_path: Path) -> None:
    entry = tmp_path / "untrained-tiny.yaml"
    entry.write_text(
        "id: untrained-tiny\ntitle: Untrained CIFAR ResNet-8\nsource: random\nfamily: cifar-resnet\n"
        "architecture: resnet8\ndim: 64\nlicence: not-applicable\npreprocessing: "
        "{input_size: 32, resize: 32, interpolation: bilinear, mean: 0.5, std: 0.25}\n"
    )
    config = tmp_path / "configs" / "mine.yaml"
    arguments = ["recommend", "cifar10-resnet20", str(entry), "--dataset", str(pictures), "--labels"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--config", str(config)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    assert {row["prior"] for row in rows} == {"cifar10-resnet20", str(entry)}
    for row in rows:
        assert set(row["scores"]) == {"rank_me", "agreement", "stability", "log_me", "h_score", "knn", "probe"}
        assert row["embed_bytes"] == 120 * 64 * 2
        assert row["embed_seconds"] == pytest.approx(120 / row["images_per_second"])
    from rela_zoo.hosts.builtin.compose import compose

    composed = compose("mine", config.parent, [])
    assert (composed.rela.prior, composed.data.train_path) == (rows[0]["prior"], str(pictures))
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert "LogME" in shown.output


def test_labels_of_a_parquet_file_count_as_those_of_the_folder(
    pictures: Path, tmp_path: Path, make_prior: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_source(pictures)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": folder.raw(i), "path": None} for i in range(len(folder))], kind)
    pq.write_table(pa.table({"image": rows, "label": pa.array(folder.labels)}), tmp_path / "x.parquet")
    # Samples are chosen by a hash of their ids, which differ between the two forms: take all of them, in order.
    monkeypatch.setattr("rela_zoo.analysis.recommend._survey.sample_order", lambda one: b"")
    scores = [
        survey({"fake": make_prior}, source, sample=len(source), labelled=True, device=torch.device("cpu"))[0].scores
        for source in (folder, image_source(tmp_path / "x.parquet"))
    ]
    assert scores[0] == scores[1]
    assert {"knn", "probe"} <= set(scores[0])
    assert folder.labels is not None
    with pytest.raises(EmbeddingsError, match="no labels"):
        survey({"fake": make_prior}, image_source(np.zeros((100, 8, 8, 3), np.uint8)), labelled=True)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(EmbeddingsError, match="too few images"):
        CliRunner().invoke(app, ["recommend", "cifar10-resnet20", "--dataset", str(tmp_path)], catch_exceptions=False)
