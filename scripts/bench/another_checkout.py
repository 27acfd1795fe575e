"""How fast `embed` is, beside the same call of another checkout of this package, each with its own defaults.

    git worktree add ../before COMMIT
    python scripts/bench/another_checkout.py ../before [--prior NAME] [--images 384] [--turns 3] [--out FILE.json]

Both take the same JPEG files of 500 × 375 on the CPU, by turns, each in a process of its own that has embedded a few
files before. Given are images a second, and images a second of processor time of all processes (a pace for each core).
Rows must be alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
_FEW = 64


def one_turn(prior: str, folders: list[str]) -> dict[str, Any]:
    """Embed a few files, and then all; of whichever checkout comes first on the path."""
    import warnings

    warnings.filterwarnings("ignore")
    import _home  # noqa: F401  (first)

    from rela_zoo import embed, load_prior

    loaded = load_prior(prior)
    for folder in folders:
        out = Path(tempfile.mkdtemp(dir="."))  # which goes with all the work
        wall, processor = time.perf_counter(), _processor_seconds()
        table = embed(loaded, folder, out / "rows", device="cpu", progress=False)
        wall, processor = time.perf_counter() - wall, _processor_seconds() - processor
    rows = table.rows(range(4)).float().flatten().tolist()
    return {"images_per_second": len(table) / wall, "images_per_cpu_second": len(table) / processor, "rows": rows}


def _processor_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _commit(tree: Path) -> str:
    asked = subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


def main() -> None:
    """Both by turns, and the ratios."""
    import torch
    from _results import relative, write_results
    from bench_embed import make_pictures

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--prior", default="random-tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    trees = {"this": HERE, "other": args.other.resolve()}
    turns: dict[str, list[dict[str, Any]]] = {"this": [], "other": []}
    with tempfile.TemporaryDirectory(prefix="bench-checkout-") as work:
        folders = [str(make_pictures(Path(work) / str(count), count, 500, 375)) for count in (_FEW, args.images)]
        for turn in range(args.turns):
            for which in sorted(trees, reverse=bool(turn % 2)):
                done = subprocess.run(
                    [sys.executable, __file__, "--one-turn", args.prior, *folders], cwd=work, text=True,
                    env={**os.environ, "PYTHONPATH": str(trees[which])}, stdout=subprocess.PIPE, check=True,
                )  # fmt: skip
                turns[which].append(json.loads(done.stdout.splitlines()[-1]))
    first = [torch.tensor(turns[which][0].pop("rows")) for which in trees]
    result: dict[str, Any] = {
        "prior": args.prior,
        "images": args.images,
        "commits": {which: _commit(tree) for which, tree in trees.items()},
        "largest_difference_of_rows": float((first[0] - first[1]).abs().max()),
        "rows": [],
    }
    for pace in ("images_per_second", "images_per_cpu_second"):
        mine, theirs = ([round(one[pace], 1) for one in turns[which]] for which in trees)
        result["rows"].append({"pace": pace, "this": mine, "other": theirs, **relative(mine, theirs)})
    print(write_results(result, args.out))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-turn"]:
        print(json.dumps(one_turn(sys.argv[2], sys.argv[3:])))
    else:
        main()
