"""Train the embedded prior: a ResNet-20 on CIFAR-10, saved as float16 safetensors beside a log of how it was made.

    python scripts/train_prior.py --data DIR --out rela_zoo/weights

DIR holds `train.parquet` and `test.parquet` in the layout of `uoft-cs/cifar10` (img: {bytes, path}, label). The log
(JSON) records seed, settings, versions, hardware, the accuracy of every epoch on the test images, and the sha256 of
the weights. The accuracy reported is that of the float16 file as shipped, not of the float32 network in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from rela_zoo.networks.cifar_resnet import CifarResNet

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def read_images(path: Path) -> tuple[Tensor, Tensor]:
    """Decode one parquet file → images (N, 3, 32, 32) uint8, labels (N,) int64."""
    table = pq.read_table(path)
    encoded = table.column("img").combine_chunks().field("bytes").to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])
    labels = torch.from_numpy(table.column("label").to_numpy().astype(np.int64))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) → float32, mean and standard deviation of CIFAR-10 removed, channels last."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop after padding by 4, and a horizontal flip with probability 0.5, each image on its own."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (4, 4, 4, 4))
    rows = torch.randint(0, 9, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 9, (count, 1), generator=generator) + torch.arange(width)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    batch = torch.arange(count).view(-1, 1, 1, 1)
    channel = torch.arange(channels).view(1, -1, 1, 1)
    return padded[batch, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


@torch.no_grad()
def accuracy(network: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of `images` (N, 3, 32, 32) uint8 whose largest logit is at `labels` (N,), in float32."""
    network.eval()
    correct = sum(
        int((network(normalise(x)).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return correct / len(labels)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images, labels = read_images(args.data / "train.parquet")
    test_images, test_labels = read_images(args.data / "test.parquet")
    network = CifarResNet(args.depth, num_classes=10).to(memory_format=torch.channels_last)
    steps = len(images) // args.batch_size
    optimizer = torch.optim.SGD(network.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps * args.epochs, pct_start=0.2)
    log, started = [], time.time()
    for epoch in range(args.epochs):
        network.train()
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for step in range(steps):
            pick = order[step * args.batch_size : (step + 1) * args.batch_size]
            x = normalise(augment(images[pick], generator))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        row = {
            "epoch": epoch + 1,
            "train_loss": round(total / steps, 4),
            "test_accuracy": accuracy(network, test_images, test_labels),
            "seconds": round(time.time() - started, 1),
        }
        log.append(row)
        print(json.dumps(row), flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    name = f"cifar10-resnet{args.depth}"
    path = args.out / f"{name}.safetensors"
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    state = {k: v.contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(
        state, path, metadata={"format": "pt", "architecture": f"cifar_resnet{args.depth}", "licence": "apache-2.0"}
    )
    shipped = CifarResNet(args.depth, num_classes=10)
    shipped.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    record = {
        "command": f"python scripts/train_prior.py --data DIR --out DIR --depth {args.depth} --epochs {args.epochs} "
        f"--batch-size {args.batch_size} --lr {args.lr} --seed {args.seed}",
        "data": "CIFAR-10 in the parquet layout of uoft-cs/cifar10, re-encoded as JPEG (train 50,000, test 10,000)",
        "seed": args.seed,
        "test_accuracy_float16_file": accuracy(shipped, test_images, test_labels),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "hardware": f"{torch.get_num_threads()} CPU threads, {platform.machine()}, bfloat16 autocast",
        "epochs": log,
    }
    (args.out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({k: record[k] for k in ("test_accuracy_float16_file", "sha256")}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the log")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())
