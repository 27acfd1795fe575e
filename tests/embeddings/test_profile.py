"""What a profile says binds, and what to change."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest

from rela_zoo._io import progress
from rela_zoo.embeddings import Profile, _profile, embed


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_profile, "usable_cores", lambda: 8)


def profile(**seconds: float) -> Profile:
    settings: dict[str, Any] = {"images": 1000, "wall": 10.0, "model": 9.0, "num_workers": 2, "batch_size": 32}
    return Profile(**{**settings, **seconds})


@pytest.mark.parametrize(
    ("seconds", "stage", "advice"),
    [
        ({}, "model", "a GPU, or a smaller prior"),
        ({"device": "cuda"}, "model", "--precision bf16"),
        ({"device": "cuda", "precision": "bf16"}, "model", "a faster GPU"),
        ({"model": 3.0, "starved": 6.0, "decode": 9.0, "resize": 6.0}, "decode", "--workers 5"),
        ({"model": 0.1, "starved": 6.0, "decode": 9.0, "resize": 16.0}, "resize", "--workers 8"),
        ({"model": 3.0, "starved": 6.0, "decode": 9.0, "num_workers": 8}, "decode", "stored smaller"),
        ({"model": 3.0, "starved": 6.0, "decode": 9.0, "num_workers": 8, "device": "cuda"}, "decode", "stored smaller"),
        # A run so short that it waits for the first batches alone.
        ({"model": 1.0, "wall": 5.0, "decode": 9.0, "resize": 3.0}, "decode", "--workers 8"),
        ({"model": 3.0, "starved": 2.0, "blocked": 5.0, "write": 9.0}, "write", "faster disk"),
        ({"model": 3.0, "copy": 6.0, "device": "cuda"}, "copy", "--batch-size"),
    ],
)
def test_what_binds(seconds: dict[str, Any], stage: str, advice: str) -> None:
    found = profile(**seconds)
    assert found.binds() == stage
    assert advice in found.advice()
    assert f"what binds: {stage}" in found.table()
    assert found.as_dict()["binds"] == stage


def test_a_faster_decoder_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = profile(model=3.0, starved=6.0, decode=9.0, num_workers=8, device="cuda:0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install simplejpeg" in found.advice()
    found.device = "cpu"  # whose resizing needs Pillow's image
    assert "simplejpeg" not in found.advice()


def test_the_table() -> None:
    lines = profile(decode=3.0, resize=5.0, write=0.01, limit=125.0).table().splitlines()
    assert lines[0] == "1,000 images in 10.0 s: 100.0 images/s, 80% of the model's own 125.0"
    assert [line.split()[:2] for line in lines[2:7]] == [
        ["decode", "3.000"], ["resize", "5.000"], ["copy", "0.000"], ["model", "9.000"], ["write", "0.010"],
    ]  # fmt: skip
    assert "nothing was embedded" in Profile().table()


def test_measured(tmp_path: Path, make_prior: Any, make_folder: Any) -> None:
    make_folder(tmp_path / "data", {"a": 60})
    found = Profile()
    options = {"batch_size": 10, "num_workers": 0, "progress": False}
    embed(make_prior(delay=0.05), tmp_path / "data", tmp_path / "out", profile=found, **options)
    assert found.images == 60
    assert found.limit == pytest.approx(10 / 0.05, rel=0.3)
    assert 6 * 0.05 < found.model < found.wall
    assert min(found.decode, found.resize, found.write) > 0
    assert found.binds() == "model"
    again = Profile()
    embed(make_prior(), tmp_path / "data", tmp_path / "out", progress=False, profile=again)
    assert again.images == 0


def test_the_line_says_how_much_of_the_limit(
    tmp_path: Path, make_prior: Any, make_pictures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = make_prior(delay=0.002)
    embed(prior, make_pictures(140), tmp_path, batch_size=2, progress="always")
    assert "% of the limit" in capsys.readouterr().err
    assert prior.calls == 70 + 3, "three times for the limit"


def test_without_a_terminal_a_line_is_logged_now_and_then(
    tmp_path: Path, make_prior: Any, make_pictures: Any, said: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    embed(make_prior(), make_pictures(20), tmp_path / "a", batch_size=2)
    assert not [one for one in said if one.startswith("embedding:")], "not within 30 s"
    monkeypatch.setattr(progress, "_LOG_EVERY", 0.0)
    embed(make_prior(), make_pictures(20), tmp_path / "b", batch_size=2)
    assert "embedding: 20/20, " in str(said)
    said.clear()
    embed(make_prior(), make_pictures(20), tmp_path / "c", batch_size=2, progress=False)
    assert not [one for one in said if one.startswith("embedding:")]
    logging.getLogger("rela_zoo").setLevel(logging.WARNING)
    prior = make_prior()
    embed(prior, make_pictures(140), tmp_path / "d", batch_size=2)
    assert prior.calls == 70, "nobody looks: nothing is timed"
    assert capsys.readouterr().out == ""
