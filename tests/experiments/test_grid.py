from __future__ import annotations

from pathlib import Path

import pytest
from experiments import _grid

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "experiments"


def test_lists_are_multiplied_out_with_seeds_varying_first() -> None:
    runs = _grid.expand(
        {"defaults": {"seed": [0, 1]}, "grids": [{"prior": [None, "random"], "data_ratio": [0.2, 0.5]}]}
    )
    assert [(r["prior"], r["data_ratio"], r["seed"]) for r in runs] == [
        (prior, ratio, seed) for prior in (None, "random") for ratio in (0.2, 0.5) for seed in (0, 1)
    ]


def test_a_run_listed_twice_is_made_once() -> None:
    runs = _grid.expand({"grids": [{"data_ratio": [0.2, 0.5]}, {"data_ratio": 0.5, "head": "trained"}]})
    assert len(runs) == 2, "a head means nothing without a prior"


def test_what_changes_no_number_changes_no_digest() -> None:
    runs = [_grid.expand({"grids": [cell]})[0] for cell in ({}, {"trim": False}, {"compile": True}, {"lr": 0.001})]
    assert len({_grid.digest(run) for run in runs}) == 1


@pytest.mark.parametrize("cell", [{"lr": 0.002}, {"seed": 1}, {"prior": "random"}, {"precision": "float32"}])
def test_what_changes_a_number_changes_the_digest(cell: dict) -> None:
    plain, other = (_grid.expand({"grids": [c]})[0] for c in ({}, cell))
    assert _grid.digest(plain) != _grid.digest(other)


def test_the_digest_is_what_it_was() -> None:
    # Another digest means that finished runs are made again: change it knowingly.
    assert _grid.digest(_grid.expand({"grids": [{}]})[0]) == "338cd1387804fad9"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(_grid.GridError) as error:
        _grid.expand(
            {
                "grids": [
                    {"lr": "1e-3"},
                    {"metod": "byol"},
                    {"method": "moco", "data_ratio": 0},
                    {"selection": "covrage"},
                ]
            }
        )
    for word in ("lr: expected a number", "metod", "method: expected one of", "data_ratio", "coverage"):
        assert word in str(error.value)


def test_runs_are_selected_by_yaml_values() -> None:
    runs = _grid.expand({"grids": [{"prior": [None, "random"], "data_ratio": [0.2, 0.5]}]})
    assert len(_grid.select(runs, ["prior=null"])) == 2
    assert len(_grid.select(runs, ["prior=random", "data_ratio=0.2"])) == 1
    with pytest.raises(_grid.GridError, match="KEY=VALUE"):
        _grid.select(runs, ["priors=random"])


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu", "tune"])
def test_shipped_grids_are_sound(name: str) -> None:
    assert _grid.load_grid(FOLDER / f"{name}.yaml")
