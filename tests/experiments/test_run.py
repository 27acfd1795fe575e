from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from experiments import run

ROOT = Path(__file__).resolve().parents[2]
TINY = {"epochs": 1, "eval_every": 1, "batch_size": 8, "hidden_dim": 16, "output_dim": 8, "prototypes": 8}
# What a GPU machine does not have.
ABSENT = (
    "hydra",
    "omegaconf",
    "lightly",
    "typer",
    "rich",
    "huggingface_hub",
    "lightning",
    "pytorch_lightning",
)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    cells = [
        {"method": "untrained"},
        {"method": "byol"},
        {"method": "dino", "prior": "cifar10-resnet20", "data_ratio": 0.5, "handover": 0.5, "epochs": 2},
    ]
    path.write_text(yaml.safe_dump({"defaults": TINY, "grids": cells}))
    return path


def _arguments(grid: Path, data: Path, *more: str) -> list[str]:
    folder = grid.parent
    return [
        str(grid),
        "--data",
        str(data),
        "--results",
        str(folder / "r.jsonl"),
        "--cache",
        str(folder / "cache"),
        *more,
    ]


def test_a_grid_from_end_to_end_and_again(grid: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, data)) == 0
    results = grid.parent / "r.jsonl"
    untrained, byol, dino = (json.loads(line) for line in results.read_text().splitlines())
    assert untrained["samples_seen"] == untrained["flops"] == 0
    assert (byol["samples_seen"], byol["prior_flops"], byol["handover_step"]) == (80, 0, None)
    assert (dino["samples_seen"], dino["handover_step"], len(dino["curve"])) == (80, 5, 2)
    assert dino["flops"] == dino["prior_flops"] + 5 * sum(dino["step_flops"].values())
    assert dino["wall_seconds"] > dino["prior_seconds"] > 0
    for row in (untrained, byol, dino):
        assert 0 <= row["linear_accuracy"] <= 1
        assert {"hardware", "versions", "command", "knn_accuracy", "backbone", "seed", "head"} <= set(row)
        assert str(data) not in json.dumps(row), "no folders of this machine"
    before = results.read_bytes()
    assert run.main(_arguments(grid, data)) == 0
    assert results.read_bytes() == before
    assert "3 done, 0 to make" in capsys.readouterr().err


def test_a_cached_prior_changes_nothing(grid: Path, data: Path) -> None:
    for results in ("cold", "warm"):
        assert run.main(_arguments(grid, data, "--only", "method=dino", "--results", str(grid.parent / results))) == 0
    cold, warm = (json.loads((grid.parent / results).read_text()) for results in ("cold", "warm"))
    assert cold["losses"] == warm["losses"]
    assert cold["prior_flops"] == warm["prior_flops"]


def test_a_run_cut_off_is_made_again(grid: Path, data: Path) -> None:
    only = ["--only", "method=untrained"]
    assert run.main(_arguments(grid, data, *only)) == 0
    results = grid.parent / "r.jsonl"
    results.write_bytes(results.read_bytes()[:100])
    assert run.main(_arguments(grid, data, *only)) == 0
    assert json.loads(results.read_text().splitlines()[-1])["method"] == "untrained"


def test_a_dry_run_makes_nothing(grid: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, data, "--dry-run", "--jobs", "2")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert not (grid.parent / "r.jsonl").exists()


def test_a_run_that_fails_does_not_stop_the_others(grid: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    cells = [{"data_ratio": 0.05}, {"method": "untrained"}]
    grid.write_text(yaml.safe_dump({"defaults": TINY, "grids": cells}))
    assert run.main(_arguments(grid, data)) == 1
    assert "less than one batch" in capsys.readouterr().err
    assert len((grid.parent / "r.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("more", [["--only", "colour=red"], ["--run", "0123456789abcdef"]])
def test_mistakes_are_told(grid: Path, data: Path, more: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, data, *more)) == 2
    assert "error: " in capsys.readouterr().err


def test_missing_data_are_told(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, tmp_path / "nowhere")) == 2
    assert "--data" in capsys.readouterr().err


def test_two_jobs_where_little_is_installed(grid: Path, data: Path, tmp_path: Path) -> None:
    """From a bare checkout: other packages can't be imported, neither by the parent nor by the jobs."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {ABSENT!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    script = ROOT / "scripts" / "experiments" / "run.py"
    grid.write_text(yaml.safe_dump({"defaults": TINY, "grids": [{"prior": "cifar10-resnet20", "seed": [0, 1]}]}))
    done = subprocess.run(
        [sys.executable, str(script), *_arguments(grid, data, "--jobs", "2", "--threads", "1")],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (grid.parent / "r.jsonl").read_text().splitlines()]
    assert sorted(row["seed"] for row in rows) == [0, 1]
