"""Try every method of an unmodified solo-learn with a prior, and write down what works: docs/solo_learn_methods.md.

SOLO_LEARN_ROOT=CHECKOUT python scripts/solo_learn_table.py [--methods byol,dino] [--out FILE]

Each method is trained for four epochs over 48 random images (stand-ins of CIFAR-10), half of them in each epoch, two
epochs in the accelerated stage and two in its own; then resumed in either stage from its own checkpoints, and read by
`main_linear.py`. A cell says "yes" only if the run did what an undisturbed one does; else why not. Needs some
minutes on one core.
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hosts" / "solo_learn")]

from solo_runner import SoloRunner  # noqa: E402

from rela_zoo.hosts.solo_learn import SUPPORT  # noqa: E402
from rela_zoo.hosts.solo_learn.find import find_solo_learn  # noqa: E402

EPOCHS, HANDOVER_EPOCH = 4, 2
# The checkpoint of an epoch, from which a run is resumed in that stage.
RESUMED = {"resumes, accelerated": 0, "resumes, own stage": 2}
COLUMNS = ("trains", "hands over", *RESUMED, "main_linear")
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "timm")

# Of one cell: None where all is well, else why not.
Cell = str | None


class Trials:
    """The runs of all methods, in three processes of solo-learn: undisturbed, resumed, evaluated."""

    def __init__(self, checkout: Path, folder: Path, methods: list[str]) -> None:
        self.solo, self.folder, self.methods = SoloRunner(checkout, folder), folder / "saved", methods

    def _job(self, method: str, where: Path, *overrides: str) -> Any:
        # deepclusterv2's targets are the clusters of the same samples one epoch earlier.
        ratio = 1.0 if method == "deepclusterv2" else 0.5
        rela = ("+rela=tiny-grid", f"rela.data_ratio={ratio}", f"rela.handover={HANDOVER_EPOCH / EPOCHS}")
        saving = {"enabled": True, "dir": str(where), "frequency": 1, "keep_prev": True}
        data = ("data.dataset=cifar10", "+limit_val_batches=0")
        return self.solo.job(
            method, *rela, *data, *overrides,
            changes={"max_epochs": EPOCHS, "checkpoint": saving}, small_data_sets=True,
        )  # fmt: skip

    def checkpoint(self, method: str, epoch: int) -> Path | None:
        found = list((self.folder / method).rglob(f"*ep={epoch}.ckpt"))
        return found[0] if len(found) == 1 else None

    def run(self) -> dict[str, dict[str, Cell]]:
        """A cell for each method and column."""
        jobs = [self._job(one, self.folder / one) for one in self.methods]
        whole = dict(zip(self.methods, self.solo.run(*jobs, timeout=1800), strict=True))
        _say("undisturbed", whole.values())

        starts = {
            (one, stage): place
            for one in self.methods
            for stage, epoch in RESUMED.items()
            if (place := self.checkpoint(one, epoch))
        }
        jobs = [
            self._job(one, self.folder.with_name("again"), f"+resume_from_checkpoint='{place}'")
            for (one, _), place in starts.items()
        ]
        again = dict(zip(starts, self.solo.run(*jobs, timeout=3600), strict=True))
        _say("resumed", again.values())

        last = {one: place for one in self.methods if (place := self.checkpoint(one, EPOCHS - 1))}
        jobs = [
            self.solo.linear_job(one, place, checkpoint={"enabled": True, "dir": str(self._linear(one))})
            for one, place in last.items()
        ]
        linear = dict(zip(last, self.solo.run(*jobs, timeout=1800), strict=True))
        _say("main_linear", linear.values())

        return {
            one: {
                "trains": _why(_trains, one, whole[one]),
                "hands over": _why(_hands_over, whole[one]),
                **{stage: _why(_resumes, whole[one], again.get((one, stage)), RESUMED[stage]) for stage in RESUMED},
                "main_linear": _why(_reads, linear.get(one), last.get(one), self._linear(one)),
            }
            for one in self.methods
        }

    def _linear(self, method: str) -> Path:
        return self.folder.with_name("linear") / method


def _say(what: str, outcomes: Any) -> None:
    outcomes = list(outcomes)
    good, seconds = sum(one.ok for one in outcomes), sum(one.seconds for one in outcomes)
    print(f"{what}: {good} of {len(outcomes)} ended well, {seconds:.0f} s", flush=True)


def _why(check: Callable[..., str | None], *arguments: Any) -> Cell:
    """What a check says, and of runs that are not there that they are not."""
    if any(one is None for one in arguments):
        return "there was no checkpoint to begin with"
    for one in arguments:
        if not getattr(one, "ok", True):
            return next((line for line in one.error.splitlines() if line.strip()), "ended without a word")[:200]
    return check(*arguments)


def _trains(method: str, outcome: Any) -> Cell:
    # deepclusterv2 has no targets in the first epoch of its own stage, here as in a plain run.
    silent = HANDOVER_EPOCH if method == "deepclusterv2" else None
    losses = [one["loss"] for one in outcome.batches if one["epoch"] != silent]
    if not all(math.isfinite(loss) for loss in losses):
        return "a loss is not finite"
    return None if any(name.startswith("backbone.") for name in outcome.end["moved"]) else "no weight has moved"


def _hands_over(outcome: Any) -> Cell:
    wanted = ["accelerated" if one["epoch"] < HANDOVER_EPOCH else "own" for one in outcome.batches]
    if [one["stage"] for one in outcome.batches] != wanted or len(set(wanted)) != 2:
        return "the stages are not where they should be"
    step, steps = outcome.end["handover_step"], wanted.count("accelerated")
    return None if step == steps else f"handed over at step {step}, not {steps}"


def _resumes(whole: Any, again: Any, epoch: int) -> Cell:
    wanted = [one for one in whole.batches if one["epoch"] > epoch]
    for key in ("epoch", "batch", "step", "indices", "pixels", "stage", "own_epoch", "loss"):
        # As text, for a loss may be no number.
        if not wanted or [repr(one[key]) for one in again.batches] != [repr(one[key]) for one in wanted]:
            return f"goes on with another {key}"
    return None if again.end["parameters"] == whole.end["parameters"] else "ends with other weights"


def _reads(_: Any, trained: Path, folder: Path) -> Cell:
    """`main_linear.py` loads with strict=False: see whether it has every weight of the network."""
    import torch

    found = list(folder.rglob("*.ckpt"))
    if not found:
        return "left no checkpoint"
    theirs, ours = (torch.load(one, map_location="cpu", weights_only=True)["state_dict"] for one in (found[0], trained))
    names = [name for name in theirs if name.startswith("backbone.")]
    other = [name for name in names if name not in ours or not torch.equal(theirs[name], ours[name])]
    return f"reads other values of {len(other)} of {len(names)} tensors, such as {other[0]}" if other else None


def _commit(checkout: Path) -> str:
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD") if (checkout / ".git").exists() else None
    if head is None:
        return "a copy without its history, so that no commit can be told"
    return f"commit {head[:8]}, {'with changes of its own' if git('status', '--porcelain') else 'unmodified'}"


def page(cells: dict[str, dict[str, Cell]], checkout: str, date: str) -> str:
    """The whole page, in Markdown."""
    packages = ", ".join(f"{one} {metadata.version(one)}" for one in PACKAGES)
    reasons: list[str] = []

    def shown(reason: Cell) -> str:
        if reason is None:
            return "yes"
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"

    lines = [
        "# solo-learn's methods with a prior",
        "",
        "Made by `SOLO_LEARN_ROOT=CHECKOUT python scripts/solo_learn_table.py`; not to be edited by hand.",
        "",
        f"solo-learn: {checkout}. Python {platform.python_version()}, {packages}; CPU, one process; {date}.",
        "",
        "Each method trains for four epochs over 48 random images with a tiny prior: two epochs in the accelerated",
        "stage, two in its own. **trains**: no error, every loss is finite, the backbone moves. **hands over**: each",
        "batch is of the stage that it should be. **resumes**: from the checkpoint of the first, and of the third",
        "epoch, to the same draws, pixels, losses and weights, bit for bit, as without a stop. **main_linear**:",
        "solo-learn's linear evaluation runs on the last checkpoint, and every weight of its backbone is the trained",
        "one.",
        "",
        "| method | " + " | ".join(COLUMNS) + " | what is peculiar |",
        "| --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    for name, row in cells.items():
        lines.append(f"| {name} | {' | '.join(shown(row[one]) for one in COLUMNS)} | {SUPPORT[name]} |")
    if reasons:
        lines += ["", "What failed:", "", *(f"{i}. `{reason}`" for i, reason in enumerate(reasons, 1))]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", help="some only, by comma; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "solo_learn_methods.md")
    arguments = parser.parse_args()
    found = find_solo_learn()
    if found is None or found.checkout is None:
        sys.exit("error: no checkout of solo-learn was found: set SOLO_LEARN_ROOT")
    methods = arguments.methods.split(",") if arguments.methods else sorted(SUPPORT)
    unknown = sorted({*methods} - {*SUPPORT})
    if unknown:
        sys.exit(f"error: no such methods: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        cells = Trials(found.checkout, Path(folder), methods).run()
    arguments.out.write_text(page(cells, _commit(found.checkout), datetime.date.today().isoformat()), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
