"""How near the training loop comes to what the machine could do, as samples a second and as a ratio.

    python scripts/experiments/throughput.py [--stem cifar] [--batch-size 256] [--device cuda]

The ceiling is forward, backward and optimiser of the same networks on one batch of random tensors that lie ready on the
device, over and over: no augmentation, no choice of samples, no momentum update, no learning rate. The loop is the one
that makes the experiments, on random images. Both are timed by turns in one process; a ratio is the median over rounds,
beside its smallest and largest. Wanted on a GPU: at least 0.85.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[2]), str(_HERE.parents[1])]

import torch  # noqa: E402

from experiments import _grid, _subset  # noqa: E402
from experiments._data import Images  # noqa: E402
from experiments._engine import Training, build_optimizer  # noqa: E402
from experiments._job import augmentations, hardware, versions  # noqa: E402
from experiments._student import Student  # noqa: E402

_SIZE = 32
_TARGET_DIM = 64


def measure(settings: _grid.Settings, device: torch.device, steps: int, rounds: int, compiled: bool) -> dict[str, Any]:
    """Time one stage: settings with `handover` 1 for the accelerated one, 0 for the method's own.

    Returns:
        Samples a second of loop and ceiling (medians over rounds), and their ratio with its smallest and largest.
    """
    batch = settings["batch_size"]
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (batch * steps, 3, _SIZE, _SIZE), dtype=torch.uint8)
    images = Images(pixels.to(device), torch.zeros(len(pixels), dtype=torch.long, device=device), "random")
    targets = torch.randn(len(pixels), _TARGET_DIM, device=device)
    student = Student(settings, _TARGET_DIM, trim=settings["trim"]).to(device)
    if compiled:
        student.compile_backbones()
    subset = _subset.build(settings, n=len(pixels), rows=None, transport=None, device=device)
    views = augmentations(settings, device)
    training = Training(settings, student, images, targets, subset, views, {"own": 0, "accelerated": 0})
    ceiling = _ceiling(settings, student, targets[:batch])
    training.warm_up()

    def loop() -> None:
        training.epoch(0).tolist()  # reading the losses waits for the device

    found: dict[str, list[float]] = {"loop": [], "ceiling": []}
    for turn in range(rounds + 1):
        for name in ("loop", "ceiling") if turn % 2 else ("ceiling", "loop"):
            seconds = _seconds(loop if name == "loop" else lambda: ceiling(steps), device)
            if turn:  # the first is for warming up
                found[name].append(batch * steps / seconds)
    ratios = [a / b for a, b in zip(found["loop"], found["ceiling"], strict=True)]
    return {
        "stage": training.stage,
        "loop_samples_per_second": round(statistics.median(found["loop"]), 1),
        "ceiling_samples_per_second": round(statistics.median(found["ceiling"]), 1),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
    }


def _ceiling(settings: _grid.Settings, student: Student, targets: torch.Tensor) -> Callable[[int], None]:
    """Steps of the same networks on the same random tensors."""
    device, accelerated = targets.device, settings["handover"] == 1.0
    shape = (settings["batch_size"], 3, _SIZE, _SIZE)
    views = [torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    optimizer = build_optimizer(student, settings)

    def steps(count: int) -> None:
        student.train()
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bfloat16"):
                if accelerated:
                    loss = student.accelerated_losses(views, targets).mean()
                else:
                    loss = student.own_loss(views, 0.0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()

    return steps


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure both stages, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=_grid.METHODS, default="byol")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--stem", choices=("imagenet", "cifar"), default=None, help="default: cifar on CUDA")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 256 on CUDA, else 64")
    parser.add_argument("--hidden-dim", type=int, default=None, help="default: 4096 on CUDA, else 1024")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--steps", type=int, default=None, help="of a round; default: 100 on CUDA, else 10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto", help="auto: on CUDA only")
    parser.add_argument("--out", type=Path, default=None, help="default: results/throughput-<device>.json")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    cuda = device.type == "cuda"
    torch.backends.cudnn.benchmark = True
    chosen = {
        "method": arguments.method,
        "backbone": arguments.backbone,
        "prior": "random",
        "stem": arguments.stem or ("cifar" if cuda else "imagenet"),
        "batch_size": arguments.batch_size or (256 if cuda else 64),
        "hidden_dim": arguments.hidden_dim or (4096 if cuda else 1024),
        "precision": arguments.precision,
    }
    compiled = arguments.compile == "yes" or (arguments.compile == "auto" and cuda)
    steps = arguments.steps or (100 if cuda else 10)
    rows = []
    for handover in (1.0, 0.0):
        settings = _grid.normalise({**_grid.DEFAULTS, **chosen, "handover": handover})
        rows.append(measure(settings, device, steps, arguments.rounds, compiled))
        print(json.dumps(rows[-1]), file=sys.stderr)
    result = {
        "settings": {**chosen, "compile": compiled, "steps": steps, "rounds": arguments.rounds, "image_size": _SIZE},
        "rows": rows,
        "hardware": hardware(device),
        "versions": versions(),
        "command": "python scripts/experiments/throughput.py " + " ".join(sys.argv[1:]),
    }
    out = arguments.out or _HERE.parent / "results" / f"throughput-{device.type}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
