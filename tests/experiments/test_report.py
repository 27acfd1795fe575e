from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiments import _grid, report
from experiments._summary import cells, cost_to_reach, curve


def row(accuracies: list[float], **changes: Any) -> dict[str, Any]:
    """A made-up run: judged after each epoch, 100 samples, 10 operations and 1 second each."""
    settings = _grid.normalise({**_grid.DEFAULTS, "images": 100, **changes})
    prior = 5 if settings["prior"] else 0
    points = [
        {
            "epoch": i,
            "samples_seen": 100 * i,
            "flops": 10 * i + prior,
            "wall_seconds": float(i + prior),
            "linear_accuracy": a,
        }
        for i, a in enumerate(accuracies, start=1 if settings["method"] != "untrained" else 0)
    ]
    points = [{**point, "knn_accuracy": 0.2} for point in points]
    last = {key: value for key, value in points[-1].items() if key != "epoch"}
    more = {"prior_flops": prior, "prior_seconds": float(prior), "hardware": "made up", "versions": {"torch": "0"}}
    return {"run": _grid.digest(settings), **settings, **last, **more, "curve": points}


ROWS = [
    row([0.3], method="untrained"),
    row([0.35, 0.4]),
    row([0.4, 0.5], seed=1),
    row([0.4, 0.6], prior="random", data_ratio=0.2),
    row([0.3, 0.32], data_ratio=0.2),
    row([0.3, 0.32], data_ratio=0.2, lr=0.01),
]


def test_seeds_are_averaged_and_namesakes_told_apart() -> None:
    found = cells(ROWS)
    assert [cell.name for cell in found] == [
        "untrained student",
        "BYOL 100 %",
        "ReLA(random) + BYOL 20 %",
        "BYOL 20 %, lr 0.001",
        "BYOL 20 %, lr 0.01",
    ]
    assert [len(cell.rows) for cell in found] == [1, 2, 1, 1, 1]
    assert curve(found[1].rows, "samples_seen", None) == ([100, 200], [pytest.approx(0.375), pytest.approx(0.45)])


def test_costs_are_read_off_the_mean_curve_with_the_priors_share() -> None:
    rela = [ROWS[3]]
    # 0.45 lies a quarter of the way from 0.4 after one epoch to 0.6 after two.
    assert cost_to_reach(rela, 0.45, "samples_seen", 0.3) == pytest.approx(125)
    assert cost_to_reach(rela, 0.45, "flops", 0.3) == pytest.approx(5 + 12.5)
    # 0.35 lies half-way between the untrained student, at the prior's cost, and the first judgement.
    assert cost_to_reach(rela, 0.35, "wall_seconds", 0.3) == pytest.approx(5.5)
    assert cost_to_reach(rela, 0.7, "flops", 0.3) is None


def test_the_reference_reaches_its_own_accuracy_at_its_own_cost() -> None:
    reference = ROWS[1:3]
    assert cost_to_reach(reference, 0.45, "samples_seen", 0.3) == pytest.approx(200)


def test_page_and_figures(tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    results.write_text("\n".join(json.dumps(one) for one in ROWS) + '\n{"run": "cut of')
    assert report.main([str(results), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| BYOL 100 % | 45.0 ± 7.1 | 20.0 ± 0.0 | 200 |" in page
    assert "| ReLA(random) + BYOL 20 % | 125 (× 0.62) |" in page
    assert "| BYOL 100 % | 200 (× 1.00) |" in page
    figures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert len(figures) == 5
    assert all(f"({name})" in page for name in figures)


def test_a_baseline_no_better_than_nothing_is_no_target(tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    results.write_text("\n".join(json.dumps(one) for one in [row([0.5], method="untrained"), *ROWS[1:]]))
    report.main([str(results), "--out", str(tmp_path)])
    assert "no better than the untrained student" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "cost-to-reach.png").exists()


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path)]) == 2
    assert "run.py makes them" in capsys.readouterr().err
