"""Train a grid of runs with the product's own training, resumable run by run.

    python scripts/experiments/run.py scripts/experiments/cpu.yaml --data DIR --priors DIR

DIR of --data holds CIFAR-10 as `train.parquet` and `test.parquet` (layout of the Hub's uoft-cs/cifar10), DIR of
--priors weight files that can't be downloaded, under the names that `rela-zoo show PRIOR` gives. The package must be
installed, or be the checkout that this script is in. Each run adds one line to the results; started again, the command
makes only what is missing. A row holds the command by which `rela-zoo pretrain` repeats it in the work folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[2]), str(_HERE.parents[1])]

import torch  # noqa: E402

from experiments import _data, _grid, _job, _results  # noqa: E402
from experiments._grid import Run  # noqa: E402
from rela_zoo.engine.config import SELF  # noqa: E402
from rela_zoo.errors import RelaZooError  # noqa: E402
from rela_zoo.hosts.builtin.compose import silence_lightning  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file")
    parser.add_argument(
        "--data", type=Path, default=Path("data/cifar10"), help="folder with train.parquet, test.parquet"
    )
    parser.add_argument("--priors", type=Path, default=None, help="folder of weight files that can't be downloaded")
    parser.add_argument("--results", type=Path, default=None, help="default: results/<grid>.jsonl beside this script")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "rela-zoo-experiments")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, as processes")
    parser.add_argument("--threads", type=int, default=None, help="of each run on the CPU")
    parser.add_argument("--only", nargs="+", default=[], metavar="KEY=VALUE", help="runs whose settings match")
    parser.add_argument(
        "--stop-after",
        type=float,
        default=None,
        metavar="SECONDS",
        help="stop between two epochs when the time is up; the same command goes on from there",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs that would be made, and how to repeat them"
    )
    before = Path.cwd()
    try:
        return _run(parser.parse_args(argv))
    except (_grid.GridError, RelaZooError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the runs that are missing", file=sys.stderr)
        return 130
    finally:
        os.chdir(before)


def _run(arguments: argparse.Namespace) -> int:
    results = (arguments.results or _HERE.parent / "results" / f"{arguments.grid.stem}.jsonl").resolve()
    grid, priors = _grid.load_grid(arguments.grid), arguments.priors and arguments.priors.resolve()
    if grid.images is None:
        arguments.work.mkdir(parents=True, exist_ok=True)
        runs = _grid.select([run.embedded() for run in grid.runs], arguments.only)
    else:
        files = _data.write_parts(arguments.data, grid.images, arguments.work)
        runs = _grid.select([run.on(*files) for run in grid.runs], arguments.only)
    # Paths in configurations are relative to it, so that a run has the same digest on every machine.
    os.chdir(arguments.work)
    _grid.compose_all(runs)
    done = {row["run"] for row in _results.read(results)}
    # The same run may be in two cells, said in another order.
    runs = list({run.digest: run for run in reversed(runs)}.values())[::-1]
    missing = [run for run in runs if run.digest not in done]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} done, {len(missing)} to make → {results}", file=sys.stderr)
    if arguments.dry_run:
        for run in missing:
            print(f"{run.digest}  {run.label}\n    {run.command}")
        return 0
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        # Read by the processes to come when they load torch.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if priors is not None:
        _job.link_weights(priors)
    for prior, data in dict.fromkeys((run.prior, run.config["data"]["train_path"]) for run in missing):
        if prior is not None and prior != SELF:
            _job.embed_once(prior, data)
    left, failed, started = sum(map(_work, missing)), 0, time.perf_counter()
    whole, until = left, None if arguments.stop_after is None else time.monotonic() + arguments.stop_after
    stopped = False
    for run, row in _made(missing, grid.judged, arguments.jobs, until):
        if row is None:
            # Others, made beside it, may have come to their end.
            stopped = True
            continue
        if isinstance(row, str):
            failed += 1
            print(f"failed: {run.label}: {row}", file=sys.stderr)
        else:
            _results.append(results, row)
        left -= _work(run)
        minutes = max(0.0, (time.perf_counter() - started) / (whole - left) * left / 60)
        print(f"done with {run.label}; about {minutes:.0f} min left", file=sys.stderr, flush=True)
    if stopped:
        print("the time is up; the same command goes on from here", file=sys.stderr)
    return 1 if failed else 0


def _made(runs: list[Run], times: int, jobs: int, until: float | None) -> Iterator[tuple[Run, _job.Row | str | None]]:
    """Each run with its row, or with what went wrong, as they get ready; None when the time is up."""
    if jobs == 1:
        yield from ((run, _try(run, times, until)) for run in runs)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent) as pool:
        made = {pool.submit(_try, run, times, until): run for run in runs}
        try:
            for future in as_completed(made):
                yield made[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed: nobody would write its rows."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _try(run: Run, times: int, until: float | None = None) -> _job.Row | str | None:
    if until is not None and time.monotonic() > until:
        return None
    try:
        silence_lightning()
        return _job.make(run, times, until)
    except _job.TimeIsUp:
        return None
    except (ValueError, RelaZooError) as error:
        # The fault of this run, as when it diverges: the others need not suffer.
        return str(error)


def _work(run: Run) -> float:
    """Roughly in proportion to a run's time; judging counts as two epochs on all data."""
    section = run.config.get("rela") or {"data_ratio": 1.0, "prior": None}
    epochs = 0.0 if run.untrained else run.config["max_epochs"] * section["data_ratio"]
    return 2.0 + epochs * (1.0 if section["prior"] is None else 0.8)


if __name__ == "__main__":
    sys.exit(main())
