"""A student trained with one prior, read in the space of another that it never met.

    python scripts/examples/transported_student.py [--prior cifar10-resnet20] [--space random] [--out results.json]

On scikit-learn's digits: train a ResNet-18 on the targets of prior A alone (ReLA, 20 % of the data an epoch), then
move what it predicts for held-out digits through the transport A → B, and classify it among the *embeddings by B* of
the labelled training digits: by 20 nearest neighbours (the bank), and by the nearest class mean (as zero-shot
classification does with the text embeddings of class names). Neither student nor transport has seen a held-out digit.

Beside it stand what bounds it: prior B itself, prior A through A → B without a student, and chance, a transport fitted
on rows of A and B that belong to different images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from rela_zoo import embed, fit_transport, load_prior
from rela_zoo.analysis.evaluate import knn_accuracy
from rela_zoo.analysis.recommend import labels_of
from rela_zoo.demo import read_held_out, write_digits
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.hosts.builtin.compose import compose, silence_lightning
from rela_zoo.hosts.builtin.train import train
from rela_zoo.transport import TargetTransport, fit_prior_transport, read_in


def nearest_mean(bank: Tensor, labels: np.ndarray, rows: Tensor, truth: np.ndarray) -> float:
    """Accuracy of the class mean with the largest cosine, around the mean of the bank."""
    centre = bank.mean(0)
    classes = np.unique(labels)
    means = torch.stack([bank[torch.from_numpy(labels == one)].mean(0) for one in classes]) - centre
    cosines = torch.nn.functional.normalize(rows - centre, dim=1) @ torch.nn.functional.normalize(means, dim=1).T
    return float((classes[cosines.argmax(1).numpy()] == truth).mean())


def train_student(table: EmbeddingTable, transport: Path, data: Path, prior: str, work: Path, epochs: int) -> Any:
    """A method trained on the targets of one prior alone: its `backbone` and `rela_head` are the student."""
    overrides = [
        "rela=default",
        f"rela.prior='{prior}'",
        "rela.data_ratio=0.2",
        "rela.augmentations=method",
        "rela.handover=1.0",
        "rela.verify=0",
        f"rela.embeddings='{table.path}'",
        f"rela.transport='{transport}'",
        f"max_epochs={epochs}",
        f"data.train_path='{data}'",
        f"checkpoint.dir='{work / 'runs'}'",
    ]
    cfg: Any = OmegaConf.to_container(compose("demo", None, overrides), resolve=True)
    return train(cfg).method


@torch.no_grad()
def predict(method: Any, images: Tensor) -> Tensor:
    """Outputs of the head (N, k) for images (N, 3, H, W)."""
    method.eval()
    return torch.cat([method.rela_head(method.backbone(piece)) for piece in images.split(256)])


def shuffled(table: EmbeddingTable, out: Path) -> EmbeddingTable:
    """The same rows, each under the id of another image."""
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    return write_rows(out, [table.rows(order)], list(table.ids), prior=dict(table.info.prior))


def measure(prior: str, space: str, work: Path, epochs: int) -> dict[str, dict[str, float]]:
    """Name → accuracies in [0, 1] on the 360 held-out digits, `knn` and `nearest_mean`, in the space of B."""
    folders = write_digits(work / "data")
    tables = {
        (name, part): embed(load_prior(name), folder, work / f"{number}-{part}")
        for number, name in enumerate((prior, space))
        for part, folder in zip(("train", "val"), folders, strict=True)
    }
    targets_path = work / "targets.safetensors"
    fit_transport(tables[prior, "train"]).save(targets_path)
    targets = TargetTransport.load(targets_path)
    between = fit_prior_transport(tables[prior, "train"], tables[space, "train"])
    wrong = fit_prior_transport(shuffled(tables[prior, "train"], work / "shuffled"), tables[space, "train"])
    method = train_student(tables[prior, "train"], targets_path, folders[0], prior, work, epochs)
    held_out = read_held_out(*folders)
    said = predict(method, held_out.val)

    def all_rows(name: str, part: str) -> Tensor:
        table = tables[name, part]
        return table.rows(range(len(table)))

    bank, labels = all_rows(space, "train").float(), labels_of(tables[space, "train"].ids)
    truth = labels_of(tables[space, "val"].ids)
    queries = {
        "student, through A to B": (read_in(said, targets, between), held_out.val_labels),
        "prior A, through A to B": (between(all_rows(prior, "val")), truth),
        "prior B itself": (all_rows(space, "val").float(), truth),
        "student, transport of unrelated rows (chance)": (read_in(said, targets, wrong), held_out.val_labels),
    }
    centre = bank.mean(0)
    return {
        name: {
            "knn": round(knn_accuracy(bank - centre, labels, rows - centre, digits), 4),
            "nearest_mean": round(nearest_mean(bank, labels, rows, digits), 4),
        }
        for name, (rows, digits) in queries.items()
    } | {"transport A to B": {"held_out_r2": round(between.quality.r2, 4) if between.quality else float("nan")}}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="cifar10-resnet20", help="A: what the student is trained with")
    parser.add_argument("--space", default="random", help="B: where it is read")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    silence_lightning()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.prior, arguments.space, Path(folder), arguments.epochs)
    for name, values in found.items():
        print(f"{name:48}", "  ".join(f"{key} {value:.1%}" for key, value in values.items()))
    facts = {
        "command": "python scripts/examples/transported_student.py",
        "data": "scikit-learn's digits, 1,437 + 360 images at 32 px",
        "prior": arguments.prior,
        "space": arguments.space,
        "epochs": arguments.epochs,
        "seed": 0,
        "accuracies": found,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in ("rela-zoo", "torch", "lightning", "timm")},
        },
    }
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
