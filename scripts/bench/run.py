"""All benchmarks, one after the other, and what they found on one page.

    python scripts/bench/run.py --out DIR [--device cuda] [--only embed step …] [--small]

Each is a process of its own, so that none leaves anything behind for the next, and writes DIR/NAME.json; `report.md`
has what each printed, and how long it took. Run it on a machine that does nothing else: the load at the end of each
stands in its JSON. Sizes are chosen so that all of it takes less than half an hour on two cores (28 minutes on those
of an AMD EPYC); `--small` only tries whether everything runs. `step` and `solo_epoch` need solo-learn (importable, or
SOLO_LEARN_ROOT), and are left out without it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Name → arguments, and those of --small.
ALL: dict[str, tuple[list[str], list[str]]] = {
    "embed": (
        ["--images", "256", "--repeats", "3"], ["--prior", "cifar10-resnet20", "--images", "16", "--repeats", "1"],
    ),
    "decode": ([], ["--prior", "cifar10-resnet20", "--images", "4", "--repeats", "1"]),
    "precision": (
        ["--images", "128", "--precision", "32", "bf16"],  # a CPU makes one image in seconds in float16
        ["--prior", "cifar10-resnet20", "--images", "64", "--precision", "bf16"],
    ),
    "compile": (["--rounds", "5"], ["--prior", "cifar10-resnet20", "--rounds", "1"]),
    "pretrain": ([], ["--steps", "2", "--rounds", "1", "optimizer.batch_size=8"]),
    "step": ([], ["--steps", "2", "--rounds", "1"]),
    "solo_epoch": (
        ["--rounds", "2", "--epochs", "1"],
        ["--rounds", "1", "--epochs", "1", "--samples", "20", "--batch", "4", "--workers", "0"],
    ),
    "views": ([], ["--rounds", "1", "--repeats", "1", "--only", "32 px"]),
    "embeddings": (["--rows", "400000"], ["--rows", "3000", "--fit-rows", "2000"]),
    "pairs": (["--rows", "400000"], ["--rows", "3000"]),
    "pull": ([], ["--rows", "3000", "--repeats", "1"]),
    "draw": ([], ["--rows", "2000"]),
    "selection": (["--rows", "100000"], ["--rows", "3000"]),
    "scale": (["--rows", "10000000"], ["--rows", "20000", "--parts", "2", "--dim", "16"]),
}  # fmt: skip
_ON_DEVICE = ("embed", "precision", "compile", "views")
_OF_SOLO_LEARN = ("step", "solo_epoch")


def main() -> None:
    """Run them, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=sorted(ALL), default=list(ALL))
    parser.add_argument("--small", action="store_true", help="only try whether everything runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pages, failed = [], False
    for name in args.only:
        if name in _OF_SOLO_LEARN and not _has_solo_learn():
            pages.append(f"## {name}\n\nLeft out: no solo-learn here.\n")
            continue
        words = ALL[name][args.small]
        if name in _ON_DEVICE:  # sizes are a CPU's; for a GPU each has its own
            words = ["--device", args.device, *(words if args.small or args.device == "cpu" else [])]
        print(f"{name} …", flush=True)
        started = time.monotonic()
        command = [sys.executable, str(FOLDER / f"bench_{name}.py"), *words, "--out", str(args.out / f"{name}.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        failed |= done.returncode != 0
        shown = done.stdout.strip() if done.returncode == 0 else done.stderr[-3000:]
        state = "failed" if done.returncode else f"{time.monotonic() - started:.0f} s"
        pages.append(f"## {name}, {state}\n\n    bench_{name}.py {' '.join(words)}\n\n```\n{shown}\n```\n")
        (args.out / "report.md").write_text("\n".join(pages), encoding="utf-8")
    print("\n".join(pages))
    raise SystemExit(failed)


def _environment() -> dict[str, str]:
    """The checkout's package comes first, whatever is installed."""
    path = os.pathsep.join([str(FOLDER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def _has_solo_learn() -> bool:
    from rela_zoo.hosts.solo_learn.find import find_solo_learn

    return find_solo_learn(Path.cwd() / "main_pretrain.py") is not None


if __name__ == "__main__":
    main()
