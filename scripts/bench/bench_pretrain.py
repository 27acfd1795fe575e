"""How near `rela-zoo pretrain` comes to what the machine could do, as samples a second and as a ratio.

    python scripts/bench/bench_pretrain.py [--only "32 px"] [overrides, as for rela-zoo pretrain]

The ceiling is forward, backward and optimiser of the same networks on one batch of random tensors that lie ready on the
device, over and over: no views, no choice of samples, no momentum update, no trainer. The loop is the built-in host's
training on random images. Both are timed by turns in one process, an epoch and as many steps; a ratio is the median
over rounds, beside its smallest and largest. Wanted: at least 0.90 on a CPU, 0.85 on a GPU.

On a GPU there are two settings, in bfloat16: ResNet-18 on 256 images of 32 px, where the host that tells the GPU what
to do sets the pace, of the ceiling, too; and ResNet-50 on 128 of 224 px, where the GPU does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import numpy as np
import torch
from _results import write_results
from lightning.pytorch import Callback
from PIL import Image

from rela_zoo.engine.objective import cosine_discrepancy
from rela_zoo.hosts.builtin.base import classification
from rela_zoo.hosts.builtin.compose import compose, silence_lightning
from rela_zoo.hosts.builtin.config import as_plain
from rela_zoo.hosts.builtin.train import initial_method, train

_PRIOR, _TARGET_DIM = "cifar10-resnet20", 64
_HALF = "precision=bf16-mixed"
# By device: setting → overrides, steps of a round, rounds.
_SETTINGS: dict[str, dict[str, tuple[list[str], int, int]]] = {
    "cpu": {"ResNet-18, 32 px": (["image_size=32", "backbone.stem=imagenet"], 10, 5)},
    "cuda": {
        "ResNet-18, 32 px": (["image_size=32", "backbone.stem=cifar", "optimizer.batch_size=256", _HALF], 100, 5),
        "ResNet-50, 224 px": (
            ["image_size=224", "backbone.name=resnet50", "backbone.stem=imagenet", "optimizer.batch_size=128", _HALF],
            20,
            3,
        ),
    },
}
_STAGES = {"accelerated": [f"rela={_PRIOR}", "rela.handover=1.0", "rela.data_ratio=1.0"], "own": []}


class Rounds(Callback):
    """Times each epoch of the training, and after it as many steps of the ceiling."""

    def __init__(self, ceiling: Callable[[int], None], device: torch.device) -> None:
        self._ceiling, self._device, self._since = ceiling, device, 0.0
        self.seconds: dict[str, list[float]] = {"loop": [], "ceiling": []}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._since = self._now()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        before = self._now()
        self.seconds["loop"].append(before - self._since)
        self._ceiling(trainer.num_training_batches)
        self.seconds["ceiling"].append(self._now() - before)


def ceiling(config: dict[str, Any], stage: str, device: torch.device) -> Callable[[int], None]:
    """Steps of the same networks on the same random tensors."""
    method: Any = initial_method({key: value for key, value in config.items() if key != "rela"}).to(device).train()
    batch, size = config["optimizer"]["batch_size"], config["augmentations"][0]["crop_size"]
    views = [torch.randn(batch, 3, size, size, device=device) for _ in range(2)]
    views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    head = torch.nn.Linear(method.features_dim, _TARGET_DIM, device=device)
    targets = torch.randn(batch, _TARGET_DIM, device=device)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)

    def loss() -> torch.Tensor:
        if stage == "own":
            return method.training_step([labels, views, labels], 0)
        features = [method.backbone(view) for view in views]
        online = [classification(method.classifier(each.detach()), labels)["loss"] for each in features]
        return sum(online) / 2 + sum(cosine_discrepancy(head(each), targets).mean() for each in features) / 2

    def steps(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16, enabled=str(config["precision"]) == "bf16-mixed"):
                total = loss()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        float(total)

    return steps


def measure(config: dict[str, Any], stage: str, device: torch.device) -> dict[str, Any]:
    """Samples a second of loop and ceiling, medians over all epochs but the first, and their ratio with its range."""
    rounds = Rounds(ceiling(config, stage, device), device)
    result = train(config, callbacks=[rounds])
    samples = result.samples_seen / len(result.history)
    rates = {name: [samples / one for one in seconds[1:]] for name, seconds in rounds.seconds.items()}
    ratios = [a / b for a, b in zip(rates["loop"], rates["ceiling"], strict=True)]
    return {
        "stage": stage,
        **{f"{name}_samples_per_second": round(statistics.median(found), 1) for name, found in rates.items()},
        "ratio": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
    }


def write_images(folder: Path, count: int, size: int) -> None:
    """Noise as JPEG files in two class folders."""
    generator = np.random.default_rng(0)
    for i in range(count):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (size, size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(i % 2) / f"{i}.jpg")


def measure_setting(
    config_name: str, setting: str, overrides: list[str], steps: int, rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """Both stages."""
    still = ["checkpoint.enabled=false", "auto_resume.enabled=false", "+enable_progress_bar=false"]
    given = [f"max_epochs={rounds + 1}", *still, "data.cache=device", "data.views_on=device", *overrides]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        for stage, more in _STAGES.items():
            config = as_plain(compose(config_name, None, [*given, *more, f"data.train_path='{images}'"]))
            if not images.exists():
                size = config["augmentations"][0]["crop_size"]
                write_images(images, config["optimizer"]["batch_size"] * steps, size)
            rows.append({"setting": setting, "steps": steps, **measure(config, stage, device)})
            paces = "{loop_samples_per_second} of {ceiling_samples_per_second} samples/s, {ratio}"
            print(f"{setting}, {stage}: {paces.format(**rows[-1])}", flush=True)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure both stages, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, in Hydra's grammar")
    parser.add_argument("--config-name", default="byol")
    parser.add_argument("--steps", type=int, help="of a round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="", help="settings that have this in their names")
    parser.add_argument("--out", type=Path, default=None, help="default: results/pretrain-<device>.json")
    arguments = parser.parse_args(argv)
    silence_lightning()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for name, (overrides, steps, rounds) in _SETTINGS[device.type].items():
        if arguments.only in name:
            steps, rounds = arguments.steps or steps, arguments.rounds or rounds
            rows += measure_setting(
                arguments.config_name, name, [*overrides, *arguments.overrides], steps, rounds, device
            )
    settings = {"config": arguments.config_name, "overrides": arguments.overrides}
    out = arguments.out or Path(__file__).parent / "results" / f"pretrain-{device.type}.json"
    write_results({"settings": settings, "rows": rows}, out)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
