"""A small LightningModule of a user's own, and data whose items carry no index. Imported by name, by children too."""

from __future__ import annotations

import inspect
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rela_zoo.engine import ViewShape
from rela_zoo.hosts.lightning import RelaCallback, accelerating

N, OWN, MILD = 24, 8, 6


class Images(Dataset):
    """24 images in an array, as ([view, view], index): the label says which sample it is. Own views are 8 px wide."""

    def __init__(self) -> None:
        self.data = np.random.default_rng(0).integers(0, 256, (N, OWN, OWN, 3), dtype=np.uint8)
        self.targets = list(range(N))
        normalise = transforms.Normalize([0.5] * 3, [0.25] * 3)
        self.transform: Any = Twice(
            transforms.Compose([transforms.RandomCrop(OWN, padding=2), transforms.ToTensor(), normalise])
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


class Twice:
    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Any) -> list[Any]:
        return [self.transform(image), self.transform(image)]


class SimCLR(pl.LightningModule):
    """Contrastive learning as in a tutorial, and the one line.

    Args:
        takes: what the optimiser trains: `all` of `self.parameters()`, or a `part` of them, named one by one.
        schedule: makes a scheduler of an optimiser, stepped after each batch.
    """

    def __init__(self, takes: str = "all", schedule: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projector = nn.Linear(8, 8)
        self.takes, self.schedule = takes, schedule
        # (stage, epoch, samples, width of the views, loss) of each batch.
        self.seen: list[tuple[str, int, list[int], int, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        views, _ = batch
        if rela := accelerating(self):
            return self.note("accelerated", batch, rela.loss([self.backbone(view) for view in views]))
        return self.note("own", batch, self.contrast(*[self.projector(self.backbone(view)) for view in views]))

    def contrast(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        similar = F.normalize(one) @ F.normalize(other).T / 0.5
        return F.cross_entropy(similar, torch.arange(len(one), device=one.device))

    def note(self, stage: str, batch: Any, loss: torch.Tensor) -> torch.Tensor:
        self.seen.append(
            (stage, self.trainer.current_epoch, batch[1].tolist(), batch[0][0].shape[-1], float(loss.detach()))
        )
        return loss

    def configure_optimizers(self) -> Any:
        parameters = list(self.parameters())
        if self.takes == "part":
            parameters = [*self.backbone.parameters(), *self.projector.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}

    @property
    def stages(self) -> list[str]:
        return [one[0] for one in self.seen]

    @property
    def losses(self) -> list[float]:
        return [one[-1] for one in self.seen]


def loader(workers: int = 0, data: Any = None, **more: Any) -> DataLoader:
    settings = {"batch_size": 4, "shuffle": True, **more}
    return DataLoader(Images() if data is None else data, num_workers=workers, **settings)


def rela(**more: Any) -> RelaCallback:
    """With 12 of the 24 samples in each epoch, so 3 batches; handover after half of the epochs."""
    settings = {key: more.pop(key) for key in ("views", "source", "accumulate", "seed") if key in more}
    section = {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": 0.5, **more}
    return RelaCallback(section, features_dim=8, **{"views": ViewShape(MILD, 2), **settings})


def trainer(*callbacks: Any, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    chosen = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False, "max_epochs": 4, **quiet, **settings}
    return pl.Trainer(callbacks=list(callbacks), **chosen)


def fit(module: Any, callback: Any = None, data: Any = None, ckpt: Any = None, **settings: Any) -> pl.Trainer:
    """Train it; `data` is a loader, a data module, or None for a module with data of its own."""
    run = trainer(*([] if callback is None else [callback]), *settings.pop("callbacks", []), **settings)
    by = {"datamodule": data} if isinstance(data, pl.LightningDataModule) else {"train_dataloaders": data}
    # Lightning 2.1 doesn't know it, and leaves the choice to torch.
    safe = {"weights_only": True} if "weights_only" in inspect.signature(run.fit).parameters else {}
    run.fit(module, **by, ckpt_path=ckpt, **safe)
    return run
