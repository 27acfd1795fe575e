"""The page of a run: well-formed, self-contained, and saying what the run's files say."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rela_zoo.analysis.report import PAGE_FILE, RUN_FILE, run_page, write_page
from rela_zoo.analysis.report._svg import bars, curve, short, ticks
from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError

HISTORY = [
    {"epoch": i, "step": 10 * (i + 1), "samples_seen": 640 * (i + 1), "seconds": 2.0 * (i + 1), **more}
    for i, more in enumerate(
        [
            {"train_rela_loss": 0.9, "val_acc1": 20.0},
            {"train_rela_loss": 0.5, "val_acc1": 40.0},
            {"train_neg_cos_sim": -0.5, "val_acc1": float("nan")},
            {"train_neg_cos_sim": -0.8, "val_acc1": 60.0},
        ]
    )
]
RUN = {
    "format": 1, "name": "<b>run & co</b>", "method": "byol", "max_epochs": 4, "epochs": 4, "steps": 40,
    "accelerates": True, "handover_step": 20, "seen": {"0": 3, "1": 70, "2": 27}, "history": HISTORY,
    "command": "rela-zoo pretrain 'name=<b>'", "environment": {"cpu": "a & b", "versions": {"torch": "2"}, "gpu": None},
}  # fmt: skip
SHA, COMMIT = "a" * 64, "b" * 40
LOCK = {
    "format": 1,
    "artefacts": [
        {
            "kind": "embeddings",
            "repo": "org/name",
            "repo_type": "dataset",
            "revision": COMMIT,
            "path": "e",
            "sha256": SHA,
        },
        {"kind": "transport", "repo": None, "repo_type": None, "revision": None, "path": "", "sha256": "c" * 64},
    ],
}


def folder(root: Path, run: Any = RUN, lock: Any = LOCK) -> Path:
    (root / RUN_FILE).write_text(json.dumps(run))
    (root / "config.yaml").write_text("name: <i>\nmethod: byol\n")
    if lock is not None:
        (root / "rela.lock").write_text(json.dumps(lock))
    return root


def tree(page: str) -> ElementTree.Element:
    """Every tag closed, every sign escaped: HTML that is XML too."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    page = run_page(folder(tmp_path))
    root = tree(page)
    tags = {one.tag for one in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "image", "use"}
    attributes = {name for one in root.iter() for name in one.attrib}
    assert not attributes & {"src", "href", "srcset", "data", "action", "background"}
    assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page)


def test_it_says_what_the_files_say(tmp_path: Path) -> None:
    page = run_page(folder(tmp_path))
    text = "".join(tree(page).itertext())
    for wanted in (
        "<b>run & co</b> · byol", "4 of 4 epochs · 40 steps · 2,560 samples · 8 s · handover at step 20",
        "100 samples, 1.24 times on average, from 0 to 2 times; 3 never", f"org/name@{COMMIT}/e", SHA,
        "made on this machine", "rela-zoo pretrain 'name=<b>'", "torch 2", "a & b", "name: <i>",
        "--config-name config checkpoint.dir=repeated", "--lock",
    ):  # fmt: skip
        assert wanted in text, wanted
    figures = [one.text for one in tree(page).iter("figcaption")]
    assert figures == ["train_rela_loss", "train_neg_cos_sim", "val_acc1"]


def test_the_accelerated_stage_is_shaded_up_to_the_handover(tmp_path: Path) -> None:
    shaded = [one for one in tree(run_page(folder(tmp_path))).iter("rect") if one.get("class") == "stage"]
    # Three curves; the handover lies half-way.
    assert [float(one.attrib["width"]) for one in shaded] == pytest.approx([(420 - 56 - 12) / 2] * 3)
    run = {**RUN, "accelerates": False, "handover_step": None}
    assert "accelerated stage" not in run_page(folder(tmp_path, run))


def test_curves_have_a_place_for_each_point() -> None:
    root = ElementTree.fromstring(curve("x", [(1, 0.0), (2, 1.0), (3, float("inf")), (4, 2.0)], "l", until=None))
    line = next(root.iter("polyline")).attrib["points"].split()
    heights = [float(one.split(",")[1]) for one in line]
    assert len(line) == 3
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert "no finite value" in curve("x", [(1, float("nan"))], "l", until=None)
    assert not list(ElementTree.fromstring(curve("x", [(1, 3.0)], "l", until=None)).iter("polyline"))


def test_bars_are_as_high_as_their_counts() -> None:
    root = ElementTree.fromstring(bars("x", [(0, 10), (1, 20), (4, 5)], "l"))
    heights = [float(one.attrib["height"]) for one in root.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[0] == pytest.approx(2 * heights[2], abs=0.2)


def test_ticks_lie_in_the_range() -> None:
    for low, high in ((0.0, 1.0), (-0.83, -0.21), (3.0, 3.0), (0, 2_560_000), (1e-5, 3e-5)):
        found = ticks(low, high)
        assert 1 <= len(found) <= 7
        assert all(low - 1e-9 <= one <= high + 1e-9 for one in found)
    assert [short(one) for one in (0.0, 12_500, -0.25)] == ["0", "12.5k", "-0.25"]


def test_a_run_without_prior_or_epochs(tmp_path: Path) -> None:
    page = run_page(folder(tmp_path, {**RUN, "history": [], "seen": None, "epochs": 0, "command": None}, None))
    text = "".join(tree(page).itertext())
    assert "No epoch has been finished yet." in text
    assert "None: the run used no prior" in text
    assert "Not recorded." in text


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder(tmp_path))])
    assert done.exit_code == 0
    assert (tmp_path / PAGE_FILE).read_text() == run_page(tmp_path)
    write_page(tmp_path, tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").is_file()


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({**RUN, "format": 2})])
def test_damaged_records_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(RelaZooError, match="there is no run in"):
        run_page(tmp_path)
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(RelaZooError, match="is damaged"):
        run_page(tmp_path)
