"""SimCLR with a prior in front, in a plain PyTorch loop: `python scripts/examples/plain_loop.py IMAGES CHECKPOINT`.

IMAGES has one folder of images a class. Called again after a stop, it goes on where it was, and ends the same.
"""

import sys
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from rela_zoo import Accelerator, RunShape, ViewShape, build_views

VIEW = {
    "rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0},
    "color_jitter": {"prob": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
    "horizontal_flip": {"prob": 0.5},
    "crop_size": 32,
    "num_crops": 2,
}
RELA = {"prior": "cifar10-resnet20", "data_ratio": 0.2, "handover": 0.5}


def train(folder, checkpoint, rela=RELA, epochs=20, batch_size=64, lr=1e-3, seed=0, student=None, projector=None):
    torch.manual_seed(seed)
    student = student or resnet18(num_classes=512)
    projector, criterion = projector or SimCLRProjectionHead(512, 512, 128, batch_norm=False), NTXentLoss(0.2)

    images = ImageFolder(folder, transform=build_views([VIEW], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]))
    rela = Accelerator(images, features_dim=512, run=RunShape(batch_size, epochs, seed=seed), rela=rela)
    views = rela.views(images.transform, ViewShape(crop_size=32, count=2))
    loader = DataLoader(rela.dataset(images, views, indexed=False), batch_size, sampler=rela.sampler, drop_last=True)

    parameters = [*student.parameters(), *projector.parameters(), *rela.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-4)
    parts, losses = {"student": student, "projector": projector, "optimizer": optimizer, "rela": rela}, []
    if Path(checkpoint).exists():
        for name, state in torch.load(checkpoint, weights_only=True).items():
            parts[name].load_state_dict(state)
    for epoch in range(rela.epoch, epochs):
        for accelerated, (indices, (a, b), _) in rela.batches(loader, epoch):
            features = student(a), student(b)
            loss = rela.loss(features, indices) if accelerated else criterion(*map(projector, features))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    return losses


if __name__ == "__main__":
    print("last losses:", [round(loss, 3) for loss in train(*sys.argv[1:])[-3:]])
