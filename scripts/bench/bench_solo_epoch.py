"""How long an epoch of solo-learn's BYOL takes with all that belongs to it: reading, decoding, views, training.

    python scripts/bench/bench_solo_epoch.py [--rounds 3] [--workers 2] [--only "32 px"] [--out FILE.json]

Bare solo-learn, with its own data sets, transforms and loader, against the accelerated stage with views made by workers
and with views made on the device; once over the same number of samples, and once over a fresh fifth of them in each
epoch (`data_ratio: 0.2`, the product's default). `32 px`: CIFAR-10's form, ResNet-18 with the stem for CIFAR, views of
solo-learn's scripts for CIFAR; images lie in memory. `224 px`: JPEG files, made on the fly, of 320 to 480 pixels,
ResNet-18, views of its scripts for ImageNet.

A time is from the end of one epoch to the end of the next, in one process with `--workers` loader processes; the first
epoch of a run is not counted, and neither is embedding, which is done once. All variants run by turns, so that the
machine's mood plays no part; a ratio is the median over rounds of that to the bare run of the same round, beside its
smallest and largest. Wanted, with views on the device and a fifth of the data: ≤ 0.5.
Needs solo-learn (importable, or SOLO_LEARN_ROOT).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import lightning.pytorch as pl
import numpy as np
import torch
from _results import relative, write_results
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import Dataset

from rela_zoo.hosts.contract import with_rela
from rela_zoo.hosts.solo_learn.find import require_solo_learn

_COLOUR = {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


def _view(size: int, low: float, blur: float, solarise: float) -> dict[str, Any]:
    return {
        "rrc": {"enabled": True, "crop_min_scale": low, "crop_max_scale": 1.0},
        "color_jitter": _COLOUR,
        "grayscale": {"prob": 0.2},
        "gaussian_blur": {"prob": blur},
        "solarization": {"prob": solarise},
        "equalization": {"prob": 0.0},
        "horizontal_flip": {"prob": 0.5},
        "crop_size": size,
        "num_crops": 1,
    }


# BYOL's views in solo-learn's scripts/pretrain. `cpu`, `gpu`: batch, and samples of the whole data set.
SETTINGS: dict[str, dict[str, Any]] = {
    "32 px": {
        "views": [_view(32, 0.2, 0.0, 0.0), _view(32, 0.2, 0.0, 0.2)],
        "dataset": "cifar10",
        "cpu": (32, 320),
        "gpu": (256, 50_000),
    },
    "224 px": {
        "views": [_view(224, 0.08, 1.0, 0.0), _view(224, 0.08, 0.1, 0.2)],
        "dataset": "imagenet100",
        "cpu": (8, 80),
        "gpu": (128, 6400),
    },
}
BARE = "bare"
_RELA = {"prior": "cifar10-resnet20", "handover": 1.0, "verify": 0, "cache": "auto"}
VARIANTS: dict[str, dict[str, Any] | None] = {
    BARE: None,
    "accelerated, views by workers": {**_RELA, "data_ratio": 1.0, "views_on": "workers", "cache": "none"},
    "accelerated, views on device": {**_RELA, "data_ratio": 1.0, "views_on": "device"},
    "a fifth, views by workers": {**_RELA, "data_ratio": 0.2, "views_on": "workers", "cache": "none"},
    "a fifth, views on device": {**_RELA, "data_ratio": 0.2, "views_on": "device"},
}


class _Epochs(pl.Callback):
    """Seconds from the end of each epoch to the end of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def _config(setting: dict[str, Any], folder: Path, batch: int, workers: int, rela: Any, gpu: bool) -> Any:
    config = {
        "name": "bench",
        "method": "byol",
        "backbone": {"name": "resnet18"},
        "method_kwargs": {"proj_hidden_dim": 4096, "proj_output_dim": 256, "pred_hidden_dim": 4096},
        "momentum": {"base_tau": 0.99, "final_tau": 1.0},
        "data": {
            "dataset": setting["dataset"],
            "train_path": str(folder),
            "val_path": None,
            "format": "image_folder",
            "num_workers": workers,
        },
        "augmentations": setting["views"],
        "optimizer": {"name": "sgd", "batch_size": batch, "lr": 0.01, "classifier_lr": 0.01, "weight_decay": 1e-4},
        "scheduler": {"name": "none"},
        "max_epochs": 1,
        "devices": "1",
        "accelerator": "gpu" if gpu else "cpu",
        "precision": "16-mixed" if gpu else 32,
        **({} if rela is None else {"rela": rela}),
    }
    return OmegaConf.create(config)


def write_jpegs(folder: Path, count: int) -> None:
    """`count` JPEG files of 320 to 480 pixels a side, in two class folders: noise of 16 pixels' size, in colours."""
    generator = np.random.default_rng(0)
    for i in range(count):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        height, width = generator.integers(320, 481, 2).tolist()
        coarse = Image.fromarray(generator.integers(0, 256, (height // 16, width // 16, 3)).astype(np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / str(i % 2) / f"{i}.jpg", quality=90)


def _data(setting: dict[str, Any], folder: Path, count: int, cfg: Any) -> Dataset:
    """The training set as solo-learn's script makes it; CIFAR-10 with random pixels."""
    from solo.data.pretrain_dataloader import (
        FullTransformPipeline,
        NCropAugmentation,
        build_transform_pipeline,
        dataset_with_index,
        prepare_datasets,
    )
    from torchvision.datasets import CIFAR10

    views = [
        NCropAugmentation(build_transform_pipeline(cfg.data.dataset, one), one.num_crops) for one in cfg.augmentations
    ]
    transform = FullTransformPipeline(views)
    if setting["dataset"] != "cifar10":
        return prepare_datasets(cfg.data.dataset, transform, train_data_path=folder, data_format="image_folder")

    class Small(CIFAR10):
        def __init__(self) -> None:
            self.root, self.transform, self.target_transform = "random", transform, None
            self.data = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(count)]

    made: Dataset = dataset_with_index(Small)()
    return made


def epoch_seconds(
    setting: dict[str, Any], folder: Path, rela: Any, *, batch: int, count: int, workers: int, epochs: int, gpu: bool
) -> list[float]:
    """Seconds of each epoch but the first."""
    from solo.args.pretrain import parse_cfg
    from solo.data.pretrain_dataloader import prepare_dataloader
    from solo.methods import METHODS

    torch.manual_seed(0)
    cfg = parse_cfg(_config(setting, folder, batch, workers, rela, gpu))
    method = METHODS["byol"] if rela is None else with_rela(METHODS["byol"])
    model = method(cfg).to(memory_format=torch.channels_last)
    loader = prepare_dataloader(_data(setting, folder, count, cfg), batch_size=batch, num_workers=workers)
    clock = _Epochs()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision=cfg.precision,
        max_epochs=epochs + 1,
        callbacks=[clock],
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(model, loader)
    return clock.seconds


def measure(name: str, arguments: argparse.Namespace, gpu: bool) -> list[dict[str, Any]]:
    """A row for each variant, for one of SETTINGS."""
    setting = SETTINGS[name]
    batch, count = setting["gpu" if gpu else "cpu"]
    batch, count = arguments.batch or batch, arguments.samples or count
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="bench-solo-") as place:
        folder = Path(place)
        if setting["dataset"] != "cifar10":
            write_jpegs(folder, count)
        for turn in range(arguments.rounds):
            for variant in list(VARIANTS)[:: 1 if turn % 2 == 0 else -1]:
                # The banners of all these trainings are not part of the result.
                with contextlib.redirect_stdout(io.StringIO()):
                    seconds = epoch_seconds(
                        setting, folder, VARIANTS[variant],
                        batch=batch, count=count, workers=arguments.workers, epochs=arguments.epochs, gpu=gpu,
                    )  # fmt: skip
                times[variant].append(statistics.median(seconds))
    rows = []
    for variant, mine in times.items():
        seen = int(count * ((VARIANTS[variant] or {}).get("data_ratio", 1.0))) // batch * batch
        rows.append(
            {
                "setting": name,
                "batch": batch,
                "variant": variant,
                "samples_of_an_epoch": seen,
                "seconds": round(statistics.median(mine), 3),
                "images_per_second": round(seen / statistics.median(mine), 1),
                **relative(mine, times[BARE]),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="timed in each round, after one that is not")
    parser.add_argument("--workers", type=int, default=2, help="processes of the loader")
    parser.add_argument("--samples", type=int, default=None, help="of the whole data set; default by device")
    parser.add_argument("--batch", type=int, default=None, help="samples of a batch; default by device")
    parser.add_argument("--only", choices=SETTINGS, default=None)
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    require_solo_learn(Path.cwd() / "main_pretrain.py")
    gpu = torch.cuda.is_available()
    facts = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "precision": "16-mixed" if gpu else "32",
        "workers": arguments.workers,
    }
    rows = []
    for name in [arguments.only] if arguments.only else SETTINGS:
        found = measure(name, arguments, gpu)
        rows += found
        for row in found:
            print(
                f"{name:7s} {row['variant']:30s} {row['samples_of_an_epoch']:6d} samples in {row['seconds']:8.2f} s, "
                f"{row['images_per_second']:8.1f} img/s, {row['relative']:6.3f} × bare "
                f"({row['relative_min']:.3f}–{row['relative_max']:.3f})"
            )
    write_results({"rows": rows}, arguments.out, **facts)


if __name__ == "__main__":
    main()
