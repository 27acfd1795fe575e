"""Train a grid of runs, resumable run by run.

    python scripts/experiments/run.py scripts/experiments/gpu.yaml --data DIR --priors DIR

DIR of --data holds CIFAR-10 as `train.parquet` and `test.parquet` (layout of the Hub's uoft-cs/cifar10), DIR of
--priors the public networks `cifar10-resnet{20,32,44,56}.safetensors`. Needs torch, torchvision, timm, pyarrow,
numpy, scikit-learn, safetensors and PyYAML, and no installation of this project. Each run adds one line to the results;
started again, the command makes only what is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[2]), str(_HERE.parents[1])]

from experiments import _grid, _results  # noqa: E402
from rela_zoo.errors import RelaZooError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except (_grid.GridError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the runs that are missing", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file")
    parser.add_argument(
        "--data", type=Path, default=Path("data/cifar10"), help="folder with train.parquet, test.parquet"
    )
    parser.add_argument("--priors", type=Path, default=None, help="folder of the public networks")
    parser.add_argument("--results", type=Path, default=None, help="default: results/<grid>.jsonl beside this script")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "rela-zoo-experiments")
    parser.add_argument("--device", default=None, help="default: cuda if there is one, else cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, as processes")
    parser.add_argument("--threads", type=int, default=None, help="of each run on the CPU")
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help="runs whose settings match")
    parser.add_argument("--run", default=None, metavar="DIGEST", help="this run alone")
    parser.add_argument("--dry-run", action="store_true", help="list the runs that would be made")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    results = arguments.results or _HERE.parent / "results" / f"{arguments.grid.stem}.jsonl"
    runs = _grid.select(_grid.load_grid(arguments.grid), arguments.only)
    if arguments.run is not None:
        runs = [run for run in runs if _grid.digest(run) == arguments.run]
        if not runs:
            raise _grid.GridError(f"{arguments.grid} has no run {arguments.run}; --dry-run lists those it has")
    done = {row.get("run") for row in _results.read(results)}
    missing = [run for run in runs if _grid.digest(run) not in done]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} done, {len(missing)} to make → {results}", file=sys.stderr)
    if arguments.dry_run:
        for run in missing:
            print(f"{_grid.digest(run)}  {_grid.label(run)}")
        return 0
    if arguments.jobs > 1 and len(missing) > 1:
        return _in_processes(arguments, missing, results)
    clock, failed = _Clock(missing), 0
    for run in missing:
        try:
            _results.append(results, _make(arguments, run))
        except (ValueError, RelaZooError) as error:
            # The fault of this run, as when it diverges: the others need not suffer.
            failed += 1
            print(f"failed: {_grid.label(run)}: {error}", file=sys.stderr)
        clock.tell(run)
    return 1 if failed else 0


def _make(arguments: argparse.Namespace, run: _grid.Settings) -> dict:
    """One run, in this process."""
    import torch

    from experiments._job import Job

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.backends.cudnn.benchmark = True
    command = (
        f"python scripts/experiments/run.py {_public(arguments.grid)} --data DIR --priors DIR --run {_grid.digest(run)}"
    )
    return Job(arguments.data, arguments.priors, arguments.cache, device, command).run(run)


def _public(grid: Path) -> str:
    """The grid's path inside the checkout; a record is no place for somebody's folders."""
    root = _HERE.parents[2]
    return str(grid.resolve().relative_to(root)) if grid.resolve().is_relative_to(root) else grid.name


def _in_processes(arguments: argparse.Namespace, missing: list[_grid.Settings], results: Path) -> int:
    """Several runs at a time, each a process that appends its own row."""
    clock = _Clock(missing)
    children: list[subprocess.Popen] = []
    given = {"--data": arguments.data, "--priors": arguments.priors, "--cache": arguments.cache}
    given |= {"--device": arguments.device, "--threads": arguments.threads}
    options = [part for key, value in given.items() if value is not None for part in (key, str(value))]
    environment = dict(os.environ)
    if arguments.threads:
        # Read when torch is loaded, before --threads can be.
        environment["OMP_NUM_THREADS"] = str(arguments.threads)

    def one(run: _grid.Settings) -> bool:
        words = [sys.executable, str(_HERE), str(arguments.grid), "--results", str(results), *options]
        child = subprocess.Popen([*words, "--run", _grid.digest(run)], env=environment)
        children.append(child)
        failed = child.wait() != 0
        clock.tell(run)
        return failed

    with ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            return 1 if any(list(pool.map(one, missing))) else 0
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise


class _Clock:
    """Says how much is left, from the time that finished runs have taken."""

    def __init__(self, runs: list[_grid.Settings]) -> None:
        self._left = sum(_work(run) for run in runs)
        self._done, self._started = 0.0, time.perf_counter()

    def tell(self, run: _grid.Settings) -> None:
        self._done, self._left = self._done + _work(run), self._left - _work(run)
        seconds = (time.perf_counter() - self._started) / self._done * self._left
        print(f"done with {_grid.label(run)}; about {seconds / 60:.0f} min left", file=sys.stderr, flush=True)


def _work(run: _grid.Settings) -> float:
    """Roughly in proportion to a run's time; judging counts as a third of an epoch on all data."""
    if run["method"] == "untrained":
        return 0.3
    return run["epochs"] * run["data_ratio"] * (1.0 if run["prior"] is None else 0.8) + 0.3 * (
        run["epochs"] / run["eval_every"]
    )


if __name__ == "__main__":
    sys.exit(main())
