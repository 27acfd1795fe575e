"""`rela-zoo evaluate`: the scores of `rela_zoo.evaluate` on the images that are named, seen as in validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

import rela_zoo
from rela_zoo.cli import app
from rela_zoo.data.views import validation_transform
from rela_zoo.errors import EmbeddingsError, RelaZooError, UnknownPriorError, WeightsError
from rela_zoo.networks.backbones import build_backbone

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))


def _images(root: Path, per_class: int, seed: int, classes: tuple[str, ...] = ("apple", "bee", "cat")) -> Path:
    """Noise with a tint of the class."""
    generator = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = generator.integers(0, 200, (20, 20, 3))
            pixels[..., ord(name[0]) % 3] += 4
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    return _images(tmp_path / "train", 12, 0), _images(tmp_path / "val", 8, 1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    network, _ = build_backbone("vit_tiny", VIT, "custom")
    view = {"crop_size": 16, "num_crops": 2, "mean": MEAN, "std": STD}
    config = {
        "method": "byol",
        "backbone": {"name": "vit_tiny", "kwargs": VIT},
        "data": {"dataset": "custom"},
        "augmentations": [view],
        "rela": {"prior": "random", "data_ratio": 0.2},
    }
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    found = {"state_dict": state, "epoch": 0, "global_step": 7, "rela_zoo_run": {"config": config}}
    torch.save(found, tmp_path / "byol-ep=0.ckpt")
    return tmp_path / "byol-ep=0.ckpt", network.eval()


def _run(*words: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--device", "cpu"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def _by_hand(network: torch.nn.Module, transform: Any, train: Path, val: Path, **options: Any) -> Any:
    return rela_zoo.evaluate(network, *(ImageFolder(str(one), transform=transform) for one in (train, val)), **options)


def test_a_checkpoint_is_judged_on_its_own_crops(checkpoint: Any, images: tuple[Path, Path]) -> None:
    path, network = checkpoint
    train, val = images
    words = ("--val", val, "--per-class", 4, "--draws", 3, "--k", 5)
    found = json.loads(_run(path, train, *words, "--json"))
    wanted = _by_hand(network, validation_transform(16, MEAN, STD), train, val, per_class=4, draws=3, k=5)
    assert found["accuracy"] == {
        "probe": wanted.probe, "few_label": wanted.few_label, "few_label_draws": list(wanted.few_label_draws),
        "knn": wanted.knn, "fine_tuned": None,
    }  # fmt: skip
    assert found["classes"] == ["apple", "bee", "cat"]
    assert np.array(found["confusion"]).sum(axis=1).tolist() == [8, 8, 8]
    assert np.trace(found["confusion"]) == round(24 * wanted.probe)
    # Other views give other scores, so that the comparison says something.
    assert 0 < wanted.probe < 1
    assert wanted != _by_hand(network, validation_transform(16, STD, MEAN), train, val, per_class=4, draws=3, k=5)
    facts = {"method": "byol", "prior": "random", "data_ratio": 0.2, "steps": 7, "crop_size": 16, "mean": MEAN}
    assert facts.items() <= found["network"].items()
    assert (found["data"]["train_images"], found["data"]["held_out_images"], found["data"]["classes"]) == (36, 24, 3)
    shown = _run(path, train, *words)
    for label, value in (("linear probe", wanted.probe), ("4 labels a class", wanted.few_label), ("5-NN", wanted.knn)):
        line = next(one for one in shown.splitlines() if label in one)
        assert f"{100 * value:.1f}" in line


def test_a_prior_sees_its_own_preprocessing(images: tuple[Path, Path]) -> None:
    train, val = images
    found = json.loads(_run("cifar10-resnet20", train, "--val", val, "--json"))
    prior = rela_zoo.load_prior("cifar10-resnet20")
    wanted = _by_hand(prior, prior.transform, train, val)
    other = rela_zoo.load_prior("cifar10-resnet20", preprocessing="rela-reference")
    assert wanted != _by_hand(other, other.transform, train, val)
    assert (found["accuracy"]["probe"], found["accuracy"]["knn"]) == (wanted.probe, wanted.knn)
    assert found["network"]["prior"] == "cifar10-resnet20"
    assert found["settings"] == {"per_class": 10, "draws": 5, "k": 20, "fine_tune_epochs": 0}


def test_fine_tuning_and_pictures(checkpoint: Any, images: tuple[Path, Path], tmp_path: Path) -> None:
    path, network = checkpoint
    before = {key: value.clone() for key, value in network.state_dict().items()}
    words = (path, images[0], "--val", images[1], "--fine-tune", 2, "--out", tmp_path / "out")
    shown = _run(*words)
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    tuned = found["accuracy"]["fine_tuned"]
    assert 0 <= tuned <= 1
    assert found["settings"]["fine_tune_epochs"] == 2
    line = next(one for one in shown.splitlines() if "fine-tuned" in one)
    assert f"{100 * tuned:.1f}" in line
    assert "2 epochs" in line
    for name in ("confusion.png", "map.png"):
        assert str(tmp_path / "out" / name) in shown
        assert min(Image.open(tmp_path / "out" / name).size) > 400
    again = json.loads(_run(*words, "--json"))
    assert again["accuracy"] == found["accuracy"], "the same seed gives the same network"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_part_of_each_class_is_held_out(images: tuple[Path, Path]) -> None:
    train, _ = images
    words = ("cifar10-resnet20", train, "--val-fraction", 0.25, "--json")
    one, again, other = (json.loads(_run(*words, "--seed", seed)) for seed in (0, 0, 1))
    assert (one["data"]["train_images"], one["data"]["held_out_images"]) == (27, 9)
    assert one["settings"]["per_class"] == 9, "no class has ten"
    assert one["accuracy"] == again["accuracy"]
    assert other["data"]["seed"] == 1


def test_what_is_refused(images: tuple[Path, Path], tmp_path: Path) -> None:
    train, val = images
    with pytest.raises(RelaZooError, match=r"12 images to learn from(.|\n)*--per-class 12"):
        _run("cifar10-resnet20", train, "--val", val, "--per-class", 13)
    with pytest.raises(EmbeddingsError, match="are those to learn from"):
        _run("cifar10-resnet20", train, "--val", train)
    other = _images(tmp_path / "other", 2, 2, ("apple", "dog"))
    with pytest.raises(EmbeddingsError, match=r"classes that those to learn from have not(.|\n)*got: +dog"):
        _run("cifar10-resnet20", train, "--val", other)
    with pytest.raises(EmbeddingsError, match="has no labels"):
        _run("cifar10-resnet20", train / "apple")
    with pytest.raises(EmbeddingsError, match="there is nothing at"):
        _run("cifar10-resnet20", tmp_path / "nowhere")
    with pytest.raises(UnknownPriorError, match="no prior is named 'cifar10-resnet21'"):
        _run("cifar10-resnet21", train)
    with pytest.raises(WeightsError, match="there is no checkpoint at"):
        _run(tmp_path / "none.ckpt", train)


def test_a_checkpoint_that_does_not_say_its_size(checkpoint: Any, images: tuple[Path, Path]) -> None:
    path, _ = checkpoint
    found = torch.load(path, weights_only=True)
    del found["rela_zoo_run"]["config"]["augmentations"]
    torch.save(found, path)
    with pytest.raises(RelaZooError, match="how large its images were"):
        _run(path, images[0])
