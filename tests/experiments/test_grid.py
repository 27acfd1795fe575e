from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiments import _grid
from experiments._grid import Run, expand
from hydra.core.override_parser.overrides_parser import OverridesParser

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "experiments"
DATA = ("cifar10/train-1-aa.parquet", "cifar10/test-1-bb.parquet")


def test_lists_are_multiplied_out_with_seeds_varying_first() -> None:
    grid = expand(
        {
            "defaults": {"config": "byol", "seed": [0, 1]},
            "grids": [{"rela": ["default", "random"], "rela.data_ratio": [0.2, 0.5]}],
        }
    )
    found = [(r.overrides["rela"], r.overrides["rela.data_ratio"], r.overrides["seed"]) for r in grid.runs]
    assert found == [(prior, ratio, seed) for prior in ("default", "random") for ratio in (0.2, 0.5) for seed in (0, 1)]


def test_a_value_that_is_a_list_stands_in_a_list_of_its_own() -> None:
    grid = expand({"grids": [{"config": "byol", "scheduler.lr_decay_steps": [[1, 2]], "seed": [0, 1]}]})
    assert [run.overrides["scheduler.lr_decay_steps"] for run in grid.runs] == [[1, 2], [1, 2]]


def test_a_run_listed_twice_is_made_once() -> None:
    grid = expand({"grids": [{"config": "byol", "seed": [0, 1]}, {"config": "byol", "seed": 1}]})
    assert len(grid.runs) == 2


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(_grid.GridError) as error:
        expand({"data": {"validation": 5}, "judged": 0, "grids": [{"seed": 0}]})
    for word in ("data: ", "judged: ", "grids[0]: expected `config`"):
        assert word in str(error.value)
    runs = [Run("byol", {"optimizr.lr": 1}), Run("byool", {}), Run("byol", {"seed": 1})]
    with pytest.raises(_grid.GridError) as error:
        _grid.compose_all(runs)
    assert "optimizr" in str(error.value)
    assert "did you mean --config-name byol" in str(error.value)


def test_runs_are_selected_by_yaml_values() -> None:
    grid = expand({"grids": [{"config": "byol", "rela": ["default", "random"], "rela.data_ratio": [0.2, 0.5]}]})
    assert len(_grid.select(grid.runs, ["rela=default"])) == 2
    assert len(_grid.select(grid.runs, ["rela=random", "rela.data_ratio=0.2"])) == 1
    assert len(_grid.select(grid.runs, ["config=dino"])) == 0
    with pytest.raises(_grid.GridError, match="KEY=VALUE"):
        _grid.select(grid.runs, ["rela"])


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 1e-5, -0.25, "adamw", "a/b-c.parquet", "it's; a 'word'", "true", "null", "12", "", [1, "a b"]),
        {"name": "balanced", "clusters": 20, "deep": [{"x": None}]},
    ],
    ids=str,
)
def test_values_reach_hydra_as_they_are(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(f"key={_grid.hydra_text(value)}")
    assert parsed.value() == value


def test_where_a_run_finds_its_data() -> None:
    config = Run("byol", {"rela": "random"}).on(*DATA).config
    assert (config["data"]["train_path"], config["data"]["val_path"]) == DATA
    assert config["rela"]["embeddings"] == "embeddings/random/train-1-aa"
    for overrides in ({"rela": "default"}, {}, {"rela": None}):
        assert "rela.embeddings" not in Run("byol", overrides).on(*DATA).overrides
    assert Run("byol", {"rela": "default", "rela.prior": "random"}).prior == "random"


def test_a_command_says_the_whole_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """What a user types gives the very configuration, and so the digest, of the run."""
    import shlex

    import yaml

    from rela_zoo.cli import main
    from rela_zoo.hosts.builtin.config import run_digest

    overrides = {
        "rela": "random",
        "rela.selection": {"name": "balanced", "clusters": 20},
        "seed": 3,
        "+benchmark": True,
    }
    run = Run("simclr", overrides).on(*DATA)
    program, *words = shlex.split(run.command)
    assert program == "rela-zoo"
    monkeypatch.setattr("sys.argv", [program, *words, "--print-config"])
    with pytest.raises(SystemExit):
        main()
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == run.config
    assert run_digest(printed) == run.digest


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu", "tune"])
def test_shipped_grids_are_sound(name: str) -> None:
    """One run of each kind is checked through and through, up to the data."""
    from rela_zoo.errors import ConfigError
    from rela_zoo.hosts.builtin.checks import check

    grid = _grid.load_grid(FOLDER / f"{name}.yaml")
    kinds = {(run.config_name, run.prior): run for run in (one.on(*DATA) for one in grid.runs)}
    for run in kinds.values():
        with pytest.raises(ConfigError) as error:
            check(run.config)
        expected = {"data.train_path", "data.val_path"} | ({"rela.embeddings"} if run.prior else set())
        assert {problem.key for problem in error.value.problems} == expected


def test_several_priors_in_one_run_are_refused() -> None:
    with pytest.raises(_grid.GridError, match="one prior a run"):
        expand({"grids": [{"config": "byol", "rela.prior": [["random", "self"]]}]})
