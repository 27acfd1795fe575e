"""`rela-zoo evaluate`: how good a trained backbone, or a prior, is on labelled images."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rela_zoo._io.files import atomic_write
from rela_zoo._version import __version__
from rela_zoo.cli._images import SkipUndecodable, Split
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from rela_zoo.analysis.evaluate import Evaluation
    from rela_zoo.data import ImageSource
    from rela_zoo.data.held_out import LabelledImages

_ENTRIES = (".yaml", ".yml")
_CHECKPOINTS = (".ckpt", ".pt", ".pth")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("evaluate")(evaluate_command)


def evaluate_command(
    network: Annotated[str, typer.Argument(metavar="CKPT", help="A .ckpt file of a run, or a prior's name.")],
    data: Annotated[str, typer.Argument(help="Labelled images to learn from: a folder, parquet files, tars, ….")],
    val: Annotated[str | None, typer.Option(help="Labelled images to judge by, of the same classes.")] = None,
    split: Split = None,
    val_split: Annotated[str | None, typer.Option(help="Split to judge by: of --val, else of DATA.")] = None,
    val_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Without --val: this part of each class of DATA is held out.")
    ] = 0.2,
    per_class: Annotated[
        int | None,
        typer.Option(min=1, help="Few labels: so many a class. Default: 10, or what the smallest class has."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Of few labels; their mean is shown.")] = 5,
    k: Annotated[int, typer.Option("--k", min=1, help="Nearest neighbours.")] = 20,
    fine_tune: Annotated[
        int,
        typer.Option("--fine-tune", min=0, metavar="EPOCHS", help="Also train the whole network with all labels."),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for evaluation.json, confusion.png and map.png, the features in two dimensions."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the part that is held out, and of fine-tuning.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images. Default: 0 on a CPU, up to 8 on a GPU.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …. Default: a GPU if there is one.")] = None,
    skip_undecodable: SkipUndecodable = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Judge a trained backbone, or a prior, by its features: linear probe, few labels, nearest neighbours.

    Images are seen whole, as in validation: at the crop size and normalisation of the training; for a prior by its own
    preprocessing. Fine-tuning sees random parts of them, mirrored if the training's views were; those of a prior are.
    """
    import torch
    from torch.utils.data import DataLoader
    from torchvision.transforms import Compose

    from rela_zoo.analysis.evaluate import evaluate, save_pictures
    from rela_zoo.data.views import RandomPart

    started = time.monotonic()
    val = data if val is None and val_split is not None else val
    if split is not None and val == data and val_split == split:
        raise RelaZooError(
            "the network would be judged by the images that it learns from", expected="another split, or other data",
            got=f"{split} of {data} for both", fix="name another split by --val-split",
        )  # fmt: skip
    train, held_out = _parts(
        (data, split), None if val is None else (val, val_split), val_fraction, seed, skip_undecodable
    )
    smallest = min(Counter(map(int, train.labels)).values())
    if per_class is not None and per_class > smallest:
        raise RelaZooError(
            f"a class has {smallest} images to learn from", expected=f"at least {per_class}, as --per-class has it",
            got=smallest, fix=f"--per-class {smallest}, or leave it out",
        )  # fmt: skip
    labels = per_class or min(10, smallest)
    subject = _subject(network)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = not where.startswith("cpu")
    processes = workers if workers is not None else min(8, os.cpu_count() or 1) if on_gpu else 0
    judged = subject.network.to(where)
    train.transform = held_out.transform = subject.transform
    changed = train.seen_through(Compose([RandomPart(subject.mirrored), subject.transform]))
    learn, judge, augmented = (
        DataLoader(part, batch_size=batch_size, num_workers=processes) for part in (train, held_out, changed)
    )
    found = evaluate(
        judged, learn, judge, per_class=labels, draws=draws, k=k, fine_tune=fine_tune, augmented=augmented, seed=seed,
        progress="always",
    )  # fmt: skip
    result = {
        "network": subject.facts,
        "data": {
            "train": train.source.describe(),
            "held_out": held_out.source.describe() if val is not None else f"{val_fraction:g} of each class of it",
            "train_images": len(train),
            "held_out_images": len(held_out),
            "classes": len(train.classes),
            "seed": seed if val is None else None,
        },
        "accuracy": found.accuracies(),
        "confusion": found.confusion.tolist(),
        "classes": [train.classes[label] for label in found.classes],
        "settings": {"per_class": labels, "draws": draws, "k": k, "fine_tune_epochs": fine_tune},
        "rela_zoo_version": __version__,
        "device": where,
        "seconds": round(time.monotonic() - started, 2),
    }
    text = json.dumps(result, indent=1)
    files: list[Path] = []
    if out is not None:
        files = [*save_pictures(found, out, result["classes"], subject.title), out / "evaluation.json"]
        atomic_write(files[-1], (text + "\n").encode("utf-8"))
    if as_json:
        typer.echo(text)
        return
    _print(subject, train, held_out, found, result["settings"])
    for file in files:
        typer.echo(f"  {file}")


@dataclass(frozen=True)
class _Subject:
    """What is judged: the network, how its images are prepared, words for people, and facts for programs."""

    network: nn.Module
    transform: Callable[[Any], Any]
    mirrored: float
    title: str
    line: str
    facts: dict[str, Any]


def _parts(
    data: tuple[str, str | None], val: tuple[str, str | None] | None, val_fraction: float, seed: int, skip: bool
) -> tuple[LabelledImages, LabelledImages]:
    """The images to learn from and to judge by, each of a path and the split that was asked for."""
    from rela_zoo.data import image_source, readable
    from rela_zoo.data.datasets import open_images
    from rela_zoo.data.held_out import labelled_parts

    def part(path: str, split: str | None, usual: str) -> ImageSource:
        found = open_images(path, usual) if split is None else image_source(path, split=split)
        return readable(found, "skip" if skip else "raise")

    train = part(*data, "train")
    other = None if val is None else part(*val, "val")
    return labelled_parts(train, other, val_fraction=val_fraction, seed=seed)


def _subject(name: str) -> _Subject:
    path = Path(name).expanduser()
    if path.suffix in _CHECKPOINTS or (path.is_file() and path.suffix not in _ENTRIES):
        return _of_checkpoint(path)
    from rela_zoo.prior import load_prior

    prior = load_prior(name)
    facts = {"prior": prior.spec.id, "architecture": prior.spec.architecture, "dim": prior.dim}
    title = f"prior {prior.spec.id}"
    return _Subject(prior, prior.transform, 0.5, title, f"{title}, {prior.dim} features", facts)


def _of_checkpoint(path: Path) -> _Subject:
    from rela_zoo.data.views import validation_transform
    from rela_zoo.prior.trained_backbone import read_backbone

    backbone = read_backbone(path)
    known = backbone.preprocessing
    if "input_size" not in known:
        raise RelaZooError(
            f"the configuration of {path} does not say how large its images were",
            expected="`augmentations` with a `crop_size`", got="none",
            fix="add them to the configuration beside the checkpoint",
        )  # fmt: skip
    size = known["input_size"]
    transform = validation_transform(size, known["mean"], known["std"])
    facts = {
        "checkpoint": str(path), "architecture": backbone.fields["architecture"], **backbone.training,
        "crop_size": size, "mean": known["mean"], "std": known["std"],
    }  # fmt: skip
    line = f"{backbone.fields['architecture']} of {path}: {backbone.made_by}; images of {size} pixels"
    return _Subject(backbone.network, transform, backbone.mirrored, f"{path.name}, {backbone.made_by}", line, facts)


def _print(
    subject: _Subject, train: LabelledImages, held_out: LabelledImages, found: Evaluation, settings: Any
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("held-out accuracy", "%", "", box=SIMPLE_HEAD)
    few = found.few_label_draws
    spread = f"mean of {len(few)} draws, {100 * min(few):.1f} to {100 * max(few):.1f}" if len(few) > 1 else "one draw"
    table.add_row("linear probe", f"{100 * found.probe:.1f}", "all labels")
    table.add_row(f"{settings['per_class']} labels a class", f"{100 * found.few_label:.1f}", spread)
    table.add_row(f"{settings['k']}-NN", f"{100 * found.knn:.1f}", "all labels, cosine")
    if found.fine_tuned is not None:
        epochs = settings["fine_tune_epochs"]
        how = f"all labels, {epochs} epoch{'s' if epochs > 1 else ''} of the whole network"
        table.add_row("fine-tuned", f"{100 * found.fine_tuned:.1f}", how)
    typer.echo(subject.line)
    Console().print(table)
    typer.echo(f"{len(train):,} images to learn from, {len(held_out):,} held out, {len(train.classes)} classes")
