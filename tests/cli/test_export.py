"""`rela-zoo export`: other programs load the file by the printed lines, strictly, and compute the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torchvision.models import resnet18
from typer.testing import CliRunner

from rela_zoo import __version__
from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError, WeightsError
from rela_zoo.hosts.builtin.train import train
from rela_zoo.networks.backbones import build_backbone

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))


def _config(backbone: str = "resnet18", dataset: str = "custom", size: int = 32, **more: Any) -> dict[str, Any]:
    view = {"crop_size": size, "num_crops": 2}
    kwargs = VIT if backbone == "vit_tiny" else {}
    section = {"name": backbone, "kwargs": kwargs}
    return {"method": "byol", "backbone": section, "data": {"dataset": dataset}, "augmentations": [view], **more}


def _trained(network: nn.Module) -> nn.Module:
    """Weights and batch statistics as no constructor leaves them."""
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator) * 0.02)
    return network.eval()


def _solo_checkpoint(folder: Path, network: nn.Module, config: dict[str, Any]) -> Path:
    """As solo-learn writes it: a Lightning checkpoint with more networks than one, and args.json beside it."""
    folder.mkdir()
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state |= {"classifier.weight": torch.zeros(3, 512), "momentum_backbone.conv1.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "epoch": 3, "global_step": 40}, folder / "byol-x-ep=3.ckpt")
    (folder / "args.json").write_text(json.dumps(config))
    return folder / "byol-x-ep=3.ckpt"


def _run(*words: object) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def _load_as_printed(printed: str) -> nn.Module:
    """Run the printed lines, as another program would."""
    code = "\n".join(line.strip() for line in printed.splitlines() if line.startswith("    "))
    assert "rela_zoo" not in code
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope["network"].eval()


def _same(one: nn.Module, other: nn.Module, size: int = 32) -> None:
    images = torch.randn(4, 3, size, size)
    with torch.no_grad():
        wanted = one(images)
        torch.testing.assert_close(other(images), wanted, rtol=1e-4, atol=1e-5)
    assert wanted.std() > 0


@pytest.mark.parametrize("format", ["timm", "torchvision", "safetensors"])
@pytest.mark.parametrize("dataset", ["custom", "cifar10"])
def test_a_resnet_of_solo_learn(tmp_path: Path, format: str, dataset: str) -> None:
    network = resnet18()
    network.fc = nn.Identity()
    if dataset == "cifar10":  # solo-learn's stem
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False)
        network.maxpool = nn.Identity()
    checkpoint = _solo_checkpoint(tmp_path / "run", _trained(network), _config(dataset=dataset))
    printed = _run(checkpoint, "--format", format, "--out", tmp_path / "student.safetensors")
    loaded = _load_as_printed(printed)
    assert type(loaded).__module__.startswith("timm." if format == "timm" else "torchvision.")
    _same(network, loaded)
    assert ("stem for small images" in printed) == (dataset == "cifar10")


def test_an_ordinary_timm_network_takes_the_file_strictly(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import load_file

    network, _ = build_backbone("resnet18", {}, "imagenet100")
    checkpoint = _solo_checkpoint(tmp_path / "run", _trained(network), _config(dataset="imagenet100", size=64))
    _run(checkpoint, "--out", tmp_path / "student.safetensors")
    other = timm.create_model("resnet18", num_classes=0)
    other.load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)
    _same(network, other.eval(), 64)
    plain = resnet18()
    plain.fc = nn.Identity()
    plain.load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)
    _same(network, plain.eval(), 64)


def test_a_run_of_the_built_in_host(tmp_path: Path, make_folder: Any) -> None:
    """Trained with a prior, exported, loaded by timm: the trained student's features, and how it came about."""
    make_folder(tmp_path / "images", {"a": 8, "b": 8})
    view = {"rrc": {"enabled": False}, "crop_size": 16, "num_crops": 2}
    result = train(
        {
            "name": "test",
            "method": "simsiam",
            "backbone": {"name": "vit_tiny", "kwargs": VIT},
            "method_kwargs": {"proj_hidden_dim": 8, "proj_output_dim": 8, "pred_hidden_dim": 8},
            "data": {"dataset": "custom", "train_path": str(tmp_path / "images"), "val_path": None, "num_workers": 0},
            "augmentations": [view],
            "optimizer": {"name": "adamw", "batch_size": 4, "lr": 0.05, "classifier_lr": 0.05, "weight_decay": 0.0},
            "scheduler": {"name": "none"},
            "checkpoint": {"enabled": True, "dir": str(tmp_path / "trained")},
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": "1",
            "seed": 3,
            "enable_progress_bar": False,
            "rela": {"prior": "cifar10-resnet20", "data_ratio": 0.5, "handover": 0.5},
        }
    )
    found = json.loads(_run(result.checkpoint, "--out", tmp_path / "s.safetensors", "--json"))
    loaded = _load_as_printed("\n".join(f"    {line}" for line in found["code"]))
    _same(result.method.backbone.eval(), loaded, 16)
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        metadata = file.metadata()
        assert len(file.keys()) == found["tensors"]
    assert metadata == found["metadata"]
    wanted = {
        "architecture": "vit_tiny_patch16_224",
        "method": "simsiam",
        "host": "the built-in host",
        "prior": "cifar10-resnet20",
        "data_ratio": "0.5",
        "steps": str(result.steps),
        "epochs": "2",
        "input_size": "16",
        "rela_zoo_version": __version__,
    }
    assert wanted.items() <= metadata.items()
    assert json.loads(metadata["model_args"]) == VIT


def test_metadata_of_a_plain_run_of_solo_learn(tmp_path: Path) -> None:
    network, _ = build_backbone("resnet18", {}, "cifar100")
    checkpoint = _solo_checkpoint(tmp_path / "run", network, _config(dataset="cifar100"))
    metadata = json.loads(_run(checkpoint, "--out", tmp_path / "s.safetensors", "--json"))["metadata"]
    wanted = {
        "host": "solo-learn", "method": "byol", "prior": "null", "data_ratio": "1.0", "steps": "40", "epochs": "4",
        "stem": "cifar", "stem_padding": "2", "mean": "[0.5071, 0.4865, 0.4409]",
    }  # fmt: skip
    assert wanted.items() <= metadata.items()


def test_what_is_refused(tmp_path: Path) -> None:
    vit, _ = build_backbone("vit_tiny", VIT, "custom")
    checkpoint = _solo_checkpoint(tmp_path / "vit", vit, _config("vit_tiny", size=16))
    out = tmp_path / "x.safetensors"
    with pytest.raises(RelaZooError, match=r"no such format\n  expected: timm, torchvision, safetensors"):
        _run(checkpoint, "--format", "onnx", "--out", out)
    with pytest.raises(WeightsError, match="torchvision has no network"):
        _run(checkpoint, "--format", "torchvision", "--out", out)
    with pytest.raises(RelaZooError, match=re.escape("--out") + r".* does not end in \.safetensors"):
        _run(checkpoint, "--out", tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="there is no checkpoint at"):
        _run(tmp_path / "none.ckpt", "--out", out)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(WeightsError, match="can't be read"):
        _run(tmp_path / "text.ckpt", "--out", out)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="no checkpoint of"):
        _run(tmp_path / "other.ckpt", "--out", out)
    unknown = _solo_checkpoint(tmp_path / "unknown", vit, _config("resnet19"))
    with pytest.raises(WeightsError, match=r"can't be rebuilt(.|\n)*resnet19"):
        _run(unknown, "--out", out)
    assert not out.exists()
