"""The smallest host under solo-learn's contract: a base class, a momentum class, one method. Seconds to train."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

N, SIDE = 48, 8
NORMALISE = transforms.Normalize([0.5] * 3, [0.25] * 3)


class Base(pl.LightningModule):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features_dim = 8
        self.classifier = nn.Linear(8, 4)
        self.num_large_crops, self.num_crops = 2, cfg.get("num_crops", 2)
        self.multicrop = self.num_crops > 2
        self.stages: list[tuple[str, int]] = []

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        return [
            {"name": "backbone", "params": self.backbone.parameters()},
            {"name": "classifier", "params": self.classifier.parameters()},
        ]

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.learnable_params, lr=1e-2, weight_decay=0.1)

    def forward(self, X: torch.Tensor) -> dict[str, Any]:
        feats = self.backbone(X)
        return {"feats": feats, "logits": self.classifier(feats.detach())}

    def base_training_step(self, X: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        out = self(X)
        return {**out, "loss": F.cross_entropy(out["logits"], targets)}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        _, views, targets = batch
        assert len(views) == self.num_crops
        outs = [self.base_training_step(x, targets) for x in views[: self.num_large_crops]]
        merged = {key: [out[key] for out in outs] for key in outs[0]}
        return {**merged, "loss": sum(merged["loss"]) / self.num_large_crops}


class Momentum(Base):
    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.momentum_backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.momentum_backbone.load_state_dict(self.backbone.state_dict())
        self.momentum_backbone.requires_grad_(False)
        self.momentum_classifier = nn.Linear(8, 4) if cfg.get("momentum_classifier") else None

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        extra = self.momentum_classifier
        return super().learnable_params + (
            [] if extra is None else [{"name": "momentum_classifier", "params": extra.parameters()}]
        )

    @torch.no_grad()
    def momentum_forward(self, X: torch.Tensor) -> dict[str, Any]:
        return {"feats": self.momentum_backbone(X)}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        out = super().training_step(batch, batch_idx)
        _, views, targets = batch
        feats = [self.momentum_forward(x)["feats"] for x in views[: self.num_large_crops]]
        out["momentum_feats"] = feats
        if self.momentum_classifier is not None:
            losses = [F.cross_entropy(self.momentum_classifier(f), targets) for f in feats]
            out["loss"] = out["loss"] + sum(losses) / len(losses)
        return out

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            for online, momentum in zip(self.backbone.parameters(), self.momentum_backbone.parameters(), strict=True):
                momentum.mul_(0.9).add_(online, alpha=0.1)


class Method(Momentum):
    """A projector that only the method's own stage may run, and a loss that pulls two views together."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.projector = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        return [*super().learnable_params, {"name": "projector", "params": self.projector.parameters()}]

    def forward(self, X: torch.Tensor) -> dict[str, Any]:
        out = super().forward(X)
        return {**out, "z": self.projector(out["feats"])}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        out = super().training_step(batch, batch_idx)
        self.stages.append(("own", batch_idx))
        return out["loss"] + F.mse_loss(out["z"][0], out["z"][1])


class Images(Dataset):
    """48 fixed images in an array, as (index, views, target); its shape is that of torchvision's CIFAR sets."""

    def __init__(self, views: int = 2, seed: int = 0, n: int = N) -> None:
        self.data = np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
        self.targets = [i % 4 for i in range(n)]
        crop = transforms.Compose([transforms.RandomCrop(SIDE, padding=2), transforms.ToTensor(), NORMALISE])
        self.transform: Any = _Views(crop, views)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return index, self.transform(Image.fromarray(self.data[index])), self.targets[index]


class _Views:
    def __init__(self, transform: Any, count: int) -> None:
        self.transform, self.count = transform, count

    def __call__(self, image: Any) -> list[Any]:
        return [self.transform(image) for _ in range(self.count)]


def config(rela: dict[str, Any] | None = None, **more: Any) -> Any:
    plain = {"method": "tiny", "seed": 3, "augmentations": [{"crop_size": SIDE}], **more}
    return OmegaConf.create(plain if rela is None else {**plain, "rela": {"prior": "random-test_resnet", **rela}})


def loader(workers: int = 0, batch_size: int = 4, **images: Any) -> DataLoader:
    return DataLoader(Images(**images), batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=True)


def trainer(**settings: Any) -> pl.Trainer:
    chosen = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 4,
        **settings,
    }
    return pl.Trainer(**chosen)
