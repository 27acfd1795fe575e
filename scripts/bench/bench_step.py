"""How long a training step takes: bare solo-learn, wrapped without `rela`, the method's own stage, the accelerated one.

    python scripts/bench/bench_step.py [--method byol] [--steps 20] [--rounds 3] [--out FILE.json]

All four run in this process, by turns, on batches made beforehand, so that neither data loading nor the machine's mood
plays a part. Times are medians over the steps of a round after the warm-up, of whole steps as Lightning makes them:
forward, backward, optimiser, hooks; a ratio is the median over rounds, beside its smallest and largest.
Wanted: wrapped ≤ 1.01 × bare, accelerated ≤ 0.75 × bare for a momentum method.
Needs solo-learn (importable, or SOLO_LEARN_ROOT).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import lightning.pytorch as pl
import torch
from _results import relative, write_results
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from rela_zoo.data import ImageSource
from rela_zoo.hosts.contract import with_rela
from rela_zoo.hosts.solo_learn.find import require_solo_learn

SETTINGS = {
    "ResNet-18, 32 px": {"backbone": "resnet18", "size": 32, "dataset": "cifar10", "cpu": (8, 6), "gpu": (256, 40)},
    "ResNet-50, 224 px": {"backbone": "resnet50", "size": 224, "dataset": "imagenet", "cpu": (4, 4), "gpu": (64, 40)},
}
VARIANTS = ("bare", "wrapped, no rela", "own stage", "accelerated stage")
_WARM_UP = 2


class _Images(Dataset, ImageSource):
    """As many samples as asked for; the pictures only matter to the prior, the views are made beforehand."""

    transform = None

    def __init__(self, count: int) -> None:
        self._ids = [f"{i}.png" for i in range(count)]

    @property
    def ids(self) -> list[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        shade = io.BytesIO()
        Image.new("RGB", (32, 32), (index % 256, index // 256 % 256, 90)).save(shade, "png")
        return shade.getvalue()

    def describe(self) -> str:
        return "images of the benchmark"

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> int:
        return index


class _Clock(pl.Callback):
    """Time from the end of one step to the end of the next, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


def _config(method: str, setting: dict[str, Any], batch: int, rela: dict[str, Any] | None, gpu: bool) -> Any:
    view = {
        "rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0},
        "color_jitter": {"prob": 0.0},
        "grayscale": {"prob": 0.0},
        "gaussian_blur": {"prob": 0.0},
        "solarization": {"prob": 0.0},
        "equalization": {"prob": 0.0},
        "horizontal_flip": {"prob": 0.5},
        "crop_size": setting["size"],
        "num_crops": 2,
    }
    kwargs = {
        "proj_hidden_dim": 4096,
        "proj_output_dim": 256,
        "pred_hidden_dim": 4096,
        "temperature": 0.2,
        "num_prototypes": 4096,
        "scale_loss": 0.1,
    }
    config = {
        "name": "bench",
        "method": method,
        "backbone": {"name": setting["backbone"]},
        "method_kwargs": kwargs,
        "momentum": {"base_tau": 0.99, "final_tau": 1.0},
        "data": {"dataset": setting["dataset"], "train_path": ".", "val_path": None, "num_workers": 0},
        "augmentations": [view],
        "optimizer": {"name": "sgd", "batch_size": batch, "lr": 0.01, "classifier_lr": 0.01, "weight_decay": 1e-4},
        "scheduler": {"name": "none"},
        "max_epochs": 1,
        "devices": "1",
        "accelerator": "gpu" if gpu else "cpu",
        "precision": "16-mixed" if gpu else 32,
    }
    return OmegaConf.create({**config, **({} if rela is None else {"rela": rela})})


def _time(method_class: type, config: Any, views: list[torch.Tensor], steps: int, gpu: bool) -> list[float]:
    from solo.args.pretrain import parse_cfg

    torch.manual_seed(0)
    model = method_class(parse_cfg(config)).to(memory_format=torch.channels_last)
    batch = len(views[0])
    labels = torch.zeros(batch, dtype=torch.long)

    def collate(indices: list[int]) -> list[Any]:
        return [torch.tensor(indices), list(views), labels]

    data = _Images(batch * (steps + _WARM_UP + 1))
    loader = DataLoader(data, batch_size=batch, shuffle=True, drop_last=True, collate_fn=collate)
    clock = _Clock()
    trainer = pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision=config.precision,
        max_epochs=1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    return clock.seconds[_WARM_UP:]


def measure(name: str, method: str, steps: int | None, rounds: int, gpu: bool) -> dict[str, list[float]]:
    """Median step time in seconds of each variant in each round, for one of SETTINGS."""
    from solo.methods import METHODS

    setting = SETTINGS[name]
    batch, default_steps = setting["gpu" if gpu else "cpu"]
    bare = METHODS[method]
    wrapped = with_rela(bare)
    device = "cuda" if gpu else "cpu"
    size = setting["size"]
    views = [torch.randn(batch, 3, size, size, device=device) for _ in range(2)]
    common = {"prior": "random", "data_ratio": 1.0, "augmentations": "method", "verify": 0}
    variants: dict[str, tuple[type, dict[str, Any] | None]] = {
        "bare": (bare, None),
        "wrapped, no rela": (wrapped, None),
        "own stage": (wrapped, {**common, "handover": 0.0}),
        "accelerated stage": (wrapped, {**common, "handover": 1.0}),
    }
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds):
        order = VARIANTS if turn % 2 == 0 else VARIANTS[::-1]
        for variant in order:
            method_class, rela = variants[variant]
            config = _config(method, setting, batch, rela, gpu)
            seconds = _time(method_class, config, views, steps or default_steps, gpu)
            times[variant].append(statistics.median(seconds))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="byol")
    parser.add_argument("--steps", type=int, default=None, help="timed steps of each variant in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SETTINGS, default=None)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    require_solo_learn(Path.cwd() / "main_pretrain.py")
    gpu = torch.cuda.is_available()
    facts = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "method": arguments.method,
        "precision": "16-mixed" if gpu else "32",
    }
    rows = []
    for name in [arguments.only] if arguments.only else SETTINGS:
        # The banners of twenty trainings are not part of the result.
        with contextlib.redirect_stdout(io.StringIO()):
            found = measure(name, arguments.method, arguments.steps, arguments.rounds, gpu)
        batch = SETTINGS[name]["gpu" if gpu else "cpu"][0]
        for variant, seconds in found.items():
            rows.append(
                {
                    "setting": name,
                    "batch": batch,
                    "variant": variant,
                    "seconds": statistics.median(seconds),
                    **relative(seconds, found["bare"]),
                }
            )
    write_results({"rows": rows}, arguments.out, **facts)
    print(" · ".join(f"{key} {value}" for key, value in facts.items()))
    for row in rows:
        where = f"{row['setting']}, batch {row['batch']}"
        print(
            f"{where:30s} {row['variant']:18s} {row['seconds'] * 1e3:9.1f} ms  {row['relative']:6.3f} × bare "
            f"({row['relative_min']:.3f}–{row['relative_max']:.3f})"
        )


if __name__ == "__main__":
    main()
