"""The table of solo-learn's methods: what its cells say of runs that went wrong, and that the page is up to date."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rela_zoo.hosts.solo_learn import SUPPORT

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "solo_learn_methods.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table() -> Any:
    spec = importlib.util.spec_from_file_location("solo_learn_table", ROOT / "scripts" / "solo_learn_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(stages: str = "aaoo", first_epoch: int = 0, **changes: Any) -> SimpleNamespace:
    """What a run has written down: a batch an epoch, accelerated or own."""
    batches = [
        {
            "epoch": epoch,
            "batch": 0,
            "step": epoch + 1,
            "indices": [epoch],
            "pixels": "x",
            "stage": {"a": "accelerated", "o": "own"}[stage],
            "own_epoch": max(0, epoch - 2),
            "loss": 1.0,
            **changes.get(f"epoch{epoch}", {}),
        }
        for epoch, stage in enumerate(stages)
        if epoch >= first_epoch
    ]
    end = {"handover_step": 2, "parameters": "p", "moved": ["backbone.conv1.weight"], **changes.get("end", {})}
    return SimpleNamespace(ok=True, error="", batches=batches, end=end)


def test_a_run_as_it_should_be(table: Any) -> None:
    assert table._trains("byol", run()) is None
    assert table._hands_over(run()) is None
    assert table._resumes(run(), run(first_epoch=1), 0) is None
    assert table._resumes(run(), run(first_epoch=3), 2) is None


def test_a_loss_that_is_no_number_is_deepclusters_own_business_once(table: Any) -> None:
    silent = run(epoch2={"loss": math.nan})
    assert table._trains("deepclusterv2", silent) is None
    assert table._trains("byol", silent) == "a loss is not finite"
    assert table._trains("byol", run(end={"moved": ["classifier.weight"]})) == "no weight has moved"


@pytest.mark.parametrize("wrong", [run("aaao"), run("oooo"), run("aaaa"), run(end={"handover_step": 3})])
def test_stages_in_the_wrong_place(table: Any, wrong: Any) -> None:
    assert table._hands_over(wrong)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (run(first_epoch=0), "another epoch"),
        (run(first_epoch=1, epoch3={"indices": [9]}), "another indices"),
        (run(first_epoch=1, epoch1={"loss": 1.0000001}), "another loss"),
        (run(first_epoch=1, end={"parameters": "q"}), "other weights"),
    ],
)
def test_a_resumed_run_that_differs(table: Any, again: Any, said: str) -> None:
    assert said in table._resumes(run(), again, 0)


def test_a_run_that_failed_says_why_and_one_without_a_checkpoint_too(table: Any) -> None:
    failed = SimpleNamespace(ok=False, error="\nRuntimeError: size mismatch\nand more")
    assert table._why(table._trains, "byol", failed) == "RuntimeError: size mismatch"
    assert "no checkpoint" in table._why(table._resumes, run(), None, 0)


def test_a_probe_on_other_weights(table: Any, tmp_path: Path) -> None:
    trained, folder = tmp_path / "trained.ckpt", tmp_path / "linear"
    folder.mkdir()
    torch.save({"state_dict": {"backbone.a": torch.ones(2), "backbone.b": torch.ones(2)}}, trained)
    assert table._reads(None, trained, folder) == "left no checkpoint"
    torch.save({"state_dict": {"backbone.a": torch.ones(2), "classifier": torch.ones(1)}}, folder / "one.ckpt")
    assert table._reads(None, trained, folder) is None
    torch.save({"state_dict": {"backbone.a": torch.ones(2), "backbone.b": torch.zeros(2)}}, folder / "one.ckpt")
    assert "1 of 2 tensors" in table._reads(None, trained, folder)


def test_reasons_are_numbered_below_the_table(table: Any) -> None:
    cells = {
        "byol": dict.fromkeys(table.COLUMNS),
        "mae": {**dict.fromkeys(table.COLUMNS), "trains": "broken", "main_linear": "broken"},
    }
    page = table.page(cells, "commit 1234", "2026-01-02")
    assert "| byol | yes | yes | yes | yes | yes |" in page
    assert "| mae | no (1) | yes | yes | yes | no (1) |" in page
    assert page.endswith("1. `broken`\n")


def test_the_page_has_a_line_for_each_method(table: Any) -> None:
    for name, note in SUPPORT.items():
        (line,) = [one for one in PAGE.splitlines() if one.startswith(f"| {name} |")]
        assert line.endswith(f"| {note} |")
        assert line.count("|") == len(table.COLUMNS) + 3
