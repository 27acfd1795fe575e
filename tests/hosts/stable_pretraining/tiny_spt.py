"""The smallest models and data for stable-pretraining's own forwards. Imported by name, by child processes too."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import stable_pretraining as spt
import torch
from PIL import Image
from stable_pretraining import forward as forwards
from stable_pretraining.callbacks import OnlineProbe
from stable_pretraining.data import FromTorchDataset, transforms
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from transformers.modeling_outputs import BaseModelOutput

from rela_zoo.hosts.lightning import RelaCallback

N, SIDE, LOCAL = 24, 8, 4
NORMALISE = {"mean": [0.5] * 3, "std": [0.25] * 3}
# Those that only write down what the machine is; the others are as a user has them.
OFF = ("env_dump", "trainer_info", "module_summary", "slurm_info", "hf_checkpoint")
spt.set(progress_bar="none", verbose="WARNING", default_callbacks=dict.fromkeys(OFF, False))


class Pixels:
    """24 images in an array, as torchvision's data sets give them: (picture, label); the label says which it is."""

    def __init__(self) -> None:
        self.data = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
        self.targets = list(range(N))

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return Image.fromarray(self.data[index]), self.targets[index]


def view(size: int = SIDE, scale: tuple[float, float] = (0.3, 1.0)) -> Any:
    return transforms.Compose(
        transforms.RGB(),
        transforms.RandomResizedCrop((size, size), scale=scale),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToImage(**NORMALISE),
    )


def two_views() -> Any:
    return transforms.MultiViewTransform([view(), view()])


def multi_crop() -> Any:
    return transforms.MultiViewTransform(
        {"global_1": view(), "global_2": view(), "local_1": view(LOCAL), "local_2": view(LOCAL)}
    )


def images(transform: Any = None) -> FromTorchDataset:
    return FromTorchDataset(Pixels(), names=["image", "label"], transform=transform or two_views())


def held() -> DataLoader:
    return DataLoader(images(view()), batch_size=8)


def loader(data: Any = None, workers: int = 0, **more: Any) -> DataLoader:
    settings = {"batch_size": 4, "shuffle": True, "num_workers": workers, **more}
    return DataLoader(images() if data is None else data, **settings)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Tokens(nn.Module):
    """A transformer's face on the network: the class token first. Takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: torch.Tensor, interpolate_pos_encoding: bool = False) -> BaseModelOutput:
        token = self.network(x)
        return BaseModelOutput(last_hidden_state=torch.stack([token, -token], dim=1))


def taught(student: nn.Module) -> Any:
    return spt.TeacherStudentWrapper(student, base_ema_coefficient=0.9)


def parts(method: str) -> dict[str, Any]:
    """What `spt.Module` is made of, for a forward of stable-pretraining."""
    if method == "byol":
        teaches = {"backbone": taught(network()), "projector": taught(nn.Linear(8, 8)), "predictor": nn.Linear(8, 8)}
        return {**teaches, "byol_loss": spt.losses.BYOLLoss()}
    if method == "dino":
        warm_up = {"warmup_temperature_teacher": 0.04, "temperature_teacher": 0.07}
        teaches = {"backbone": taught(Tokens()), "projector": taught(nn.Linear(8, 16))}
        return {**teaches, **warm_up, "warmup_epochs_temperature_teacher": 4, "dino_loss": spt.losses.DINOv1Loss()}
    loss = {"simclr": spt.losses.NTXEntLoss, "vicreg": spt.losses.VICRegLoss}[method]()
    return {"backbone": network(), "projector": nn.Linear(8, 8), f"{method}_loss": loss}


def module(method: str = "simclr", optim: Any = None, **more: Any) -> Any:
    """As a user would write it, with random weights that are always the same; notes each forward in `seen`."""
    torch.manual_seed(0)
    chosen = optim or {"optimizer": {"type": "AdamW", "lr": 1e-2}, "scheduler": "ConstantLR"}
    own = getattr(forwards, method)
    seen: list[tuple[str, int, bool]] = []

    def forward(self: Any, batch: Any, stage: str) -> Any:
        out = own(self, batch, stage)
        seen.append((stage, self.current_epoch, "loss" in out))
        return out

    forward.__name__ = method
    made = spt.Module(forward=forward, optim=chosen, **{**parts(method), **more})
    made.seen = seen
    return made


def rela(**more: Any) -> dict[str, Any]:
    """With 12 of the 24 samples in each epoch, so 3 batches; handover after half of the epochs."""
    return {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": 0.5, **more}


def probe(of: Any) -> Any:
    return OnlineProbe(
        of, name="probe", input="embedding", target="label", probe=nn.Linear(8, N), loss=nn.CrossEntropyLoss(),
        optimizer={"type": "SGD", "lr": 0.1}, metrics={"accuracy": MulticlassAccuracy(N)},
    )  # fmt: skip


def trainer(*callbacks: Any, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    chosen = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False, "max_epochs": 4, **quiet, **settings}
    return pl.Trainer(callbacks=list(callbacks), **chosen)


class Record(pl.Callback):
    """What happens in each training step: the sizes of the views, what the forward returned, the probe's weights."""

    def __init__(self) -> None:
        self.sizes: list[set[int]] = []
        self.samples: list[list[int]] = []
        self.losses: list[float] = []
        self.outputs: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        views = [one for one in batch.get("views", batch.values()) if isinstance(one, dict)] or [batch]
        assert all(torch.equal(one["sample_idx"], one["label"]) for one in views)
        self.sizes.append({one["image"].shape[-1] for one in views})
        self.samples.append(views[0]["sample_idx"].tolist())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.outputs.append(dict(outputs))


def fit(of: Any, *callbacks: Any, data: Any = None, val: Any = None, ckpt: Any = None, **settings: Any) -> pl.Trainer:
    """Train it; `data` is a loader or a data module."""
    run = trainer(*callbacks, **settings)
    whole = isinstance(data, pl.LightningDataModule)
    by = (
        {"datamodule": data}
        if whole
        else {"train_dataloaders": loader() if data is None else data, "val_dataloaders": val}
    )
    run.fit(of, **by, ckpt_path=ckpt, weights_only=True if ckpt else None)
    return run


def accelerator(run: pl.Trainer) -> Any:
    """Of the run of a trainer."""
    return next(one for one in run.callbacks if isinstance(one, RelaCallback)).accelerator
