from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from experiments import report
from experiments._grid import Run
from experiments._summary import cells, cost_to_reach, curve


def _row(accuracies: list[float], trained: bool, paid: float, **more: Any) -> dict[str, Any]:
    """A made-up run: judged after each epoch, 100 samples, 10 operations and 1 second each."""
    points = [
        {
            "epoch": i,
            "samples_seen": 100 * i,
            "flops": 10 * i + paid,
            "wall_seconds": float(i + paid),
            "cpu_seconds": float(i),
            "linear_accuracy": a,
            "knn_accuracy": 0.2,
            "few_label_accuracy": 0.1,
        }
        for i, a in enumerate(accuracies, start=int(trained))
    ]
    last = {key: value for key, value in points[-1].items() if key != "epoch"}
    made = {
        "prior_flops": paid,
        "prior_seconds": float(paid),
        "prior_cpu_seconds": float(paid),
        "hardware": "made up",
        "versions": {"torch": "0"},
    }
    return {"images": 100, **last, **made, "curve": points, **more}


def row(
    accuracies: list[float], *, untrained: bool = False, prior: str = "default", **overrides: Any
) -> dict[str, Any]:
    """A row as run.py writes it."""
    given = {
        "rela": "reference",
        **({} if prior == "default" else {"rela.prior": prior}),
        "rela.data_ratio": 1.0,
        "seed": 0,
        **{k.replace("__", "."): v for k, v in overrides.items()},
    }
    run = Run("byol", given, untrained).on("train.parquet", "test.parquet")
    own = {"engine": "product", "run": run.digest, "untrained": untrained, "config": run.config}
    return _row(accuracies, not untrained, 5 if run.prior else 0, **own)


def old_row(accuracies: list[float], **settings: Any) -> dict[str, Any]:
    """A row as the loop that was here before wrote it."""
    usual = {"method": "byol", "prior": None, "data_ratio": 1.0, "selection": "uniform", "head": None, "handover": None}
    settings = {**usual, "seed": 0, "lr": 0.001, "backbone": "resnet18", **settings}
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    made = _row(accuracies, settings["method"] != "untrained", 0, engine="standalone", run=digest, **settings)
    return {key: value for key, value in made.items() if not key.startswith("few")}


ROWS = [
    row([0.3], untrained=True),
    row([0.35, 0.4]),
    row([0.4, 0.5], seed=1),
    row([0.4, 0.6], prior="random", rela__data_ratio=0.2),
    row([0.3, 0.32], rela__data_ratio=0.2, optimizer__lr=0.004),
    row([0.3, 0.32], rela__data_ratio=0.2, optimizer__lr=0.01),
]
OLD = [
    old_row([0.9], method="untrained"),
    old_row([0.91, 0.95]),
    old_row([0.7, 0.99], prior="resnet56", head="frozen", handover=0.5),
]


def test_seeds_are_averaged_and_namesakes_told_apart() -> None:
    found = cells(ROWS)
    assert [cell.name for cell in found] == [
        "untrained student",
        "BYOL 100 %",
        "ReLA(random) + BYOL 20 %",
        "BYOL 20 %, optimizer.lr 0.004",
        "BYOL 20 %, optimizer.lr 0.01",
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


def _report(rows: list[dict[str, Any]], folder: Path) -> str:
    results = folder / "r.jsonl"
    results.write_text("\n".join(json.dumps(one) for one in rows) + '\n{"run": "cut of')
    assert report.main([str(results), "--out", str(folder / "out")]) == 0
    return (folder / "out" / "report.md").read_text()


def test_page_and_figures(tmp_path: Path) -> None:
    page = _report(ROWS, tmp_path)
    assert "| BYOL 100 % | 45.0 ± 7.1 | 20.0 ± 0.0 | 10.0 ± 0.0 | 200 | 2 | 2 | 2 | not shown |" in page
    assert "nothing to measure costs against" in page  # its 20-NN is that of the untrained student
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["prices.png"]
    assert "(prices.png)" in page
    assert "standalone" not in page


def test_runs_to_draw_are_named_as_in_the_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    results, out = tmp_path / "r.jsonl", tmp_path / "out"
    results.write_text("\n".join(map(json.dumps, ROWS)))
    assert report.main([str(results), "--out", str(out), "--draw", "BYOL 99 %"]) == 2
    assert "BYOL 100 %" in capsys.readouterr().err
    drawn = []
    for names in ([], ["--draw", "BYOL 100 %"]):
        assert report.main([str(results), "--out", str(out), *names]) == 0
        drawn.append(((out / "report.md").read_text(), (out / "prices.png").read_bytes()))
    assert drawn[0][0] == drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def _learnt(one: dict[str, Any], knn: float) -> dict[str, Any]:
    """The same run, better by 20-NN, too."""
    curve = [{**point, "knn_accuracy": knn} for point in one["curve"]]
    return {**one, "knn_accuracy": knn, "curve": curve}


def test_what_it_costs_to_reach_a_baseline_that_has_learnt(tmp_path: Path) -> None:
    untrained = [row([0.3], untrained=True, seed=seed) for seed in (0, 1)]
    byol = [_learnt(row([0.35, one], seed=seed), 0.4 + seed / 100) for seed, one in enumerate((0.4, 0.41))]
    fast = [_learnt(row([0.42, 0.5], prior="random", seed=seed), 0.45) for seed in (0, 1)]
    slow = [_learnt(row([0.42, 0.5], prior="self", seed=seed), 0.30) for seed in (0, 1)]
    page = _report([*untrained, *byol, *fast, *slow], tmp_path)
    assert "### Against the best baseline: BYOL 100 %" in page
    # Two seconds for the baseline; one and the embedding's five for the first judgement of the other.
    assert "| ReLA(random) + BYOL 100 % | +9.5 ± 6.4 | +4.5 ± 6.4 | 6 | × 3.00 | × 0.50 |" in page
    assert "| ReLA(self) + BYOL 100 % | +9.5 ± 6.4 | -10.5 ± 6.4 | – | – | – |" in page


def test_engines_are_kept_apart(tmp_path: Path) -> None:
    alone = _report(ROWS, tmp_path)
    (tmp_path / "both").mkdir()
    page = _report([OLD[0], *ROWS, *OLD[1:]], tmp_path / "both")
    new, old = page.split("## Trained by the loop that this folder had before")
    assert new.strip() == alone.strip(), "what the product made is told as if there were nothing else"
    assert "| BYOL 100 % | 95.0 | 20.0 | 200 |" in old
    assert "What it costs to reach BYOL on all of the data (95.0 %)" in old
    assert "| ReLA(resnet56) + BYOL 100 %, handover 0.5 | 99.0 |" in old
    assert "(standalone-accuracies.png)" in old
    assert len(list((tmp_path / "both" / "out").glob("*.png"))) == 6


def test_only_old_rows(tmp_path: Path) -> None:
    page = _report(OLD, tmp_path)
    assert page.count("## Trained by") == 1
    assert all(path.name.startswith("standalone-") for path in (tmp_path / "out").glob("*.png"))


def test_a_baseline_no_better_than_nothing_is_no_target(tmp_path: Path) -> None:
    page = _report([old_row([0.99], method="untrained"), *OLD[1:]], tmp_path)
    assert "no better than the untrained student" in page
    assert not (tmp_path / "out" / "cost-to-reach.png").exists()


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path)]) == 2
    assert "run.py makes them" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cpu", "tune"])
def test_shipped_results_say_what_made_them(name: str) -> None:
    from experiments import _results

    rows = _results.read(Path(report.__file__).parent / "results" / f"{name}.jsonl")
    assert rows
    assert {one["engine"] for one in rows} <= {"product", "standalone"}
    assert cells(one for one in rows if one["engine"] == "standalone")
