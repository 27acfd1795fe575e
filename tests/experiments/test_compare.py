"""Paired differences, which baselines count, and prices at judgements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from experiments._compare import best_baseline, difference, has_learnt, price, reached_at
from experiments._summary import Cell
from scipy.stats import ttest_rel


def cell(linear: list[float], knn: list[float] | None = None, *, embedding: float = 0.0, **settings: Any) -> Cell:
    """Made-up runs, one a seed, each judged at a half of its accuracy first and then at all of it."""
    usual = {"method": "simclr", "prior": None, "data_ratio": 1.0}
    rows = []
    for number, (one, other) in enumerate(zip(linear, knn or linear, strict=True)):
        curve = [
            {
                "cpu_seconds": 10.0 * i,
                "flops": i,
                "samples_seen": i,
                "linear_accuracy": one * i / 2,
                "knn_accuracy": other * i / 2,
            }
            for i in (1, 2)
        ]
        row = {"engine": "product", "config": {"seed": number}, "linear_accuracy": one, "knn_accuracy": other}
        rows.append({**row, "curve": curve, "prior_cpu_seconds": embedding})
    return Cell({**usual, **settings}, {}, "", rows)


UNTRAINED = cell([0.30, 0.31, 0.32], method="untrained")


def test_differences_are_scipys() -> None:
    rng = np.random.default_rng(0)
    one, other = cell(list(rng.normal(0.5, 0.02, 5))), cell(list(rng.normal(0.45, 0.02, 5)))
    found = difference(one, other, "linear_accuracy")
    assert found is not None
    expected = ttest_rel(one.values("linear_accuracy"), other.values("linear_accuracy")).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((expected.low, expected.high))
    assert found.above == (expected.low > 0)
    assert found.seeds == 5


def test_seeds_that_one_lacks_play_no_part_and_one_seed_has_no_interval() -> None:
    few = cell([0.5])
    found = difference(few, cell([0.4, 0.9]), "linear_accuracy")
    assert found is not None
    assert (found.mean, found.half, found.seeds, found.above) == (pytest.approx(0.1), None, 1, False)
    other = cell([0.5, 0.6])
    other.rows = other.rows[1:]
    assert difference(few, other, "linear_accuracy") is None


def test_a_baseline_counts_if_it_has_learnt_by_both_measures() -> None:
    assert has_learnt(cell([0.40, 0.41, 0.43]), UNTRAINED)
    assert not has_learnt(cell([0.40, 0.41, 0.43], [0.2, 0.2, 0.2]), UNTRAINED)  # what the old table compared with
    assert not has_learnt(cell([0.31, 0.30, 0.34]), UNTRAINED)
    assert not has_learnt(cell([0.9]), UNTRAINED)  # one seed says nothing
    weak, strong = cell([0.40, 0.41, 0.43]), cell([0.45, 0.46, 0.47], method="byol")
    others = [
        cell([0.9, 0.91, 0.92], method="supervised"),
        cell([0.9, 0.91, 0.92], prior="x"),
        cell([0.9, 0.91, 0.92], data_ratio=0.2),
        cell([0.9, 0.91, 0.92], [0.1, 0.1, 0.1]),
    ]
    assert best_baseline([UNTRAINED, weak, strong, *others]) is strong
    assert best_baseline([UNTRAINED, *others]) is None


def test_prices_are_those_of_judgements() -> None:
    found = cell([0.6, 0.8], [0.5, 0.5], embedding=7.0)
    assert reached_at(found, {"linear_accuracy": 0.35, "knn_accuracy": 0.25}) == 0
    assert reached_at(found, {"linear_accuracy": 0.35, "knn_accuracy": 0.26}) == 1
    assert reached_at(found, {"linear_accuracy": 0.71}) is None
    assert price(found.rows, 0, "cpu") == 17.0
    assert price(found.rows, 1, "cpu", embedding=False) == 20.0


def test_an_embedding_that_was_not_measured_is_not_free() -> None:
    found = cell([0.6, 0.8])
    found.rows[0] = {key: value for key, value in found.rows[0].items() if key != "prior_cpu_seconds"}
    assert price(found.rows, 1, "cpu") == 20.0  # without a prior there is none
    found.rows[0]["prior_flops"] = 5
    assert np.isnan(price(found.rows, 1, "cpu"))
    assert price(found.rows, 1, "cpu", embedding=False) == 20.0
