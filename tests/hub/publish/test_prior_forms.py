"""Where a published prior comes from: entries, timm, modules, checkpoints; and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rela_zoo import load_prior
from rela_zoo.errors import RegistryError, WeightsError
from rela_zoo.hub.publish import Details, prepare, publish
from rela_zoo.hub.publish._prior_forms import from_checkpoint, from_entry, from_module, from_timm
from rela_zoo.hub.publish._publishable_weights import write_safetensors
from rela_zoo.networks.cifar_resnet import CifarResNet

MINE = Details(id="mine", licence="mit", training_data="noise")
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def test_an_entry_brings_its_weights_byte_for_byte(made: Any, tmp_path: Path) -> None:
    source = from_entry(str(made.entry), Details(), None, tmp_path)
    assert source.weights is not None
    assert source.weights.read_bytes() == made.weights.read_bytes()
    assert source.spec.sha256 in source.digests
    assert source.spec.pin == "confirmed"


def test_a_packaged_prior_needs_a_name_of_its_own(tmp_path: Path) -> None:
    assert from_entry("cifar10-resnet20", Details(), None, tmp_path).packaged, "its rows alone can be published"
    with pytest.raises(RegistryError, match="is the name of a prior of the registry"):
        from_entry("cifar10-resnet20", Details(title="My own ResNet"), None, tmp_path)
    source = from_entry("cifar10-resnet20", Details(id="renamed"), None, tmp_path)
    assert source.spec.sha256 == "2b7af01773ca59484b43f114d35f0664d47bda63ea772253c028f07600599ca0"
    assert source.spec.title.startswith("Supervised ResNet-20")


def test_weights_of_a_package_are_published_as_the_safetensors_made_of_them(
    weight_packages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    state = CifarResNet(8).state_dict()
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    source, converted = (tmp_path / "net.pth").read_bytes(), (tmp_path / "net.safetensors").read_bytes()
    weight_packages.install("net-weights", "net_weights/net.pth", source)
    package = {"distribution": "net-weights", "version": "1.0", "file": "net_weights/net.pth"}
    entry = {
        "id": "mine",
        "title": "Mine",
        "source": "package",
        "family": "cifar-resnet",
        "architecture": "resnet8",
        "dim": 64,
        "file": "model.safetensors",
        "pin": "confirmed",
        "licence": "mit",
        "sha256": hashlib.sha256(converted).hexdigest(),
        "package": {**package, "sha256": hashlib.sha256(source).hexdigest()},
        "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.5},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(entry))
    found = from_entry(str(tmp_path / "mine.yaml"), Details(id="theirs"), None, tmp_path)
    assert (found.spec.source, found.spec.package, found.spec.sha256) == ("local", None, entry["sha256"])
    assert found.weights is not None
    assert found.weights.read_bytes() == converted


def test_weights_that_stay_where_they_are_must_be_pinned(tmp_path: Path) -> None:
    source = from_entry("clip-vit-b16", Details(id="my-clip"), None, tmp_path)
    assert source.weights is None
    assert source.spec.revision
    assert not source.spec.aliases, "those are the packaged prior's"
    with pytest.raises(RegistryError, match="untrained"):
        from_entry("random", Details(id="x"), None, tmp_path)


def test_timm_weights_of_ones_own_must_fit_exactly(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("resnet18", num_classes=5)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    source = from_timm("resnet18", MINE, tmp_path / "w.safetensors")
    assert (source.spec.dim, source.spec.architecture, source.spec.licence) == (512, "resnet18", "mit")
    short = dict(list(network.state_dict().items())[5:])
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        from_timm("resnet18", MINE, tmp_path / "short.safetensors")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="pickle"):
        from_timm("resnet18", MINE, tmp_path / "w.pth")


def test_timm_s_own_weights_are_named_and_pinned(writer: Any, tmp_path: Path) -> None:
    commit = writer.store.add("timm/resnet18.a1_in1k", {"model.safetensors": b"12345678{}", "README.md": b"x"})
    source = from_timm("resnet18.a1_in1k", MINE, None)
    spec = source.spec
    assert (spec.source, spec.repo, spec.revision) == ("timm", "timm/resnet18.a1_in1k", commit)
    assert spec.sha256 == writer.store.repos["model", spec.repo].head.files["model.safetensors"].sha256
    assert spec.preprocessing is not None
    assert (spec.preprocessing.input_size, spec.preprocessing.interpolation) == (224, "bicubic")
    assert source.weights is None
    writer.store.add("timm/resnet18.fb_ssl_yfcc100m_ft_in1k", {"pytorch_model.bin": b"\x80\x02"})
    with pytest.raises(WeightsError, match="pickles are never read"):
        from_timm("resnet18.fb_ssl_yfcc100m_ft_in1k", MINE, None)
    with pytest.raises(RegistryError, match="no weights"):
        from_timm("resnet18.nobody", MINE, None)


def test_a_module_s_code_stays_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n    torch.manual_seed(1)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match="input size"):
        from_module("own_net:make", MINE, None, tmp_path / "work")
    details = Details(id="mine", licence="mit", input_size=8)
    source = from_module("own_net:make", details, None, tmp_path / "work")
    assert (source.spec.family, source.spec.dim) == ("external", 6)
    assert source.weights is not None
    assert set(load_file(source.weights)) == {"2.weight", "2.bias"}
    assert source.local is not None
    assert source.local.source == "callable"
    save_file({"2.weight": torch.zeros(6, 12)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match="does not hold"):
        from_module("own_net:make", details, tmp_path / "part.safetensors", tmp_path / "work")


def _checkpoint(folder: Path, network: nn.Module, config: dict[str, Any], **state: Any) -> Path:
    """As solo-learn writes it: a Lightning checkpoint, and args.json beside it."""
    folder.mkdir(exist_ok=True)
    tensors = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    tensors |= {"momentum_backbone.x": torch.zeros(1), "projector.0.weight": torch.zeros(2, 2), **state}
    path = folder / "simclr-ep=3.ckpt"
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer_states": [{}]}, path)
    (folder / "args.json").write_text(json.dumps(config))
    return path


def _config(name: str = "resnet18", dataset: str = "cifar10", **kwargs: Any) -> dict[str, Any]:
    return {
        "method": "simclr",
        "backbone": {"name": name, "kwargs": kwargs},
        "data": {"dataset": dataset},
        "augmentations": [{"crop_size": 32, "num_crops": 2}, {"crop_size": 16, "num_crops": 4}],
    }


def _torchvision_cifar() -> nn.Module:
    from torchvision.models import resnet18

    network = resnet18()
    network.fc = nn.Identity()
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 2, bias=False)
    network.maxpool = nn.Identity()
    return network


def test_the_backbone_of_a_checkpoint_is_extracted_strictly(tmp_path: Path) -> None:
    network = _torchvision_cifar()
    source = from_checkpoint(_checkpoint(tmp_path / "run", network, _config()), MINE, tmp_path / "work")
    spec = source.spec
    assert (spec.architecture, spec.stem, spec.stem_padding, spec.dim) == ("resnet18", "cifar", 2, 512)
    assert spec.preprocessing is not None
    assert (spec.preprocessing.input_size, spec.preprocessing.mean[0]) == (32, 0.4914)
    assert "simclr" in spec.title
    assert source.weights is not None
    held = load_file(source.weights)
    assert held.keys() == network.state_dict().keys()
    assert all(torch.equal(held[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.extra": torch.zeros(1)}, "1 left over: extra"),
        ({"backbone.bn1.weight": torch.zeros(3)}, "another shape"),
        ({"backbone.bn1.weight": torch.full((64,), torch.nan)}, "not finite"),
    ],
)
def test_a_backbone_that_is_not_the_network_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = _checkpoint(tmp_path / "run", _torchvision_cifar(), _config(), **change)
    with pytest.raises(WeightsError, match=message):
        from_checkpoint(path, MINE, tmp_path / "work")


def test_a_checkpoint_of_another_run_or_kind_is_refused(tmp_path: Path) -> None:
    network = _torchvision_cifar()
    path = _checkpoint(tmp_path / "run", network, _config(dataset="imagenet"))
    with pytest.raises(WeightsError, match=r"conv1.weight .* instead of"):
        from_checkpoint(path, MINE, tmp_path / "work")
    path = _checkpoint(tmp_path / "run", network, _config("wide_resnet28w2"))
    with pytest.raises(WeightsError, match="only solo-learn can build"):
        from_checkpoint(path, MINE, tmp_path / "work")
    (tmp_path / "run" / "args.json").unlink()
    with pytest.raises(WeightsError, match="nothing says which network"):
        from_checkpoint(path, MINE, tmp_path / "work")
    torch.save({"state_dict": {}, "hyper_parameters": Path("x")}, path)  # an object: never unpickled
    with pytest.raises(WeightsError, match="never loaded"):
        from_checkpoint(path, MINE, tmp_path / "work")
    torch.save(network.state_dict(), path)
    with pytest.raises(WeightsError, match="no checkpoint of"):
        from_checkpoint(path, MINE, tmp_path / "work")


def test_a_checkpoint_of_the_built_in_host_carries_its_configuration(tmp_path: Path) -> None:
    from rela_zoo.networks.backbones import build_backbone

    network, _ = build_backbone("vit_tiny", VIT, "custom")
    path = _checkpoint(tmp_path / "run", network.eval(), {})
    (tmp_path / "run" / "args.json").unlink()
    held = torch.load(path, weights_only=True)
    torch.save({**held, "rela_zoo_run": {"config": {**_config("vit_tiny", "custom", **VIT), "method": "byol"}}}, path)
    details = Details(id="mine", licence="mit", input_size=16)
    entry = prepare(tmp_path / "local", checkpoint=path, details=details)
    prior = load_prior(entry, strict=True)
    assert prior.dim == 24
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(prior(x), network(x), atol=1e-5)


def test_weights_are_published_only_where_the_licence_allows_it(made: Any, hub: Any) -> None:
    for licence, more in (("unstated", {}), ("not-applicable", {}), ("other", {"licence_link": "https://x.org/l"})):
        with pytest.raises(WeightsError, match="can't be published under licence"):
            publish("org/a", entry=made.entry, details=Details(licence=licence, **more), dry_run=True)
    other = Details(licence="other", licence_link="https://x.org/l", redistribute=True)
    done = publish("org/a", entry=made.entry, details=other, dry_run=True)
    assert "model.safetensors" in {one.path for one in done.plan.model.send}
    done = publish("org/a", entry=made.entry, details=Details(licence="unstated"), upload_weights=False, dry_run=True)
    assert "model.safetensors" not in {one.path for one in done.plan.model.send}
    assert not hub.store.repos


def test_one_source_and_no_other(made: Any, tmp_path: Path) -> None:
    for options in ({}, {"entry": made.entry, "timm": "resnet18"}):
        with pytest.raises(RegistryError, match="one prior"):
            publish("org/a", **options)
    with pytest.raises(RegistryError, match="no weights at"):
        publish("org/a", timm="resnet18", weights=tmp_path / "none")
    with pytest.raises(RegistryError, match="is no name of a repository"):
        publish("only-a-name", entry=made.entry)


def test_equal_tensors_give_an_equal_file(tmp_path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    write_safetensors(tmp_path / "a", {"x": shared, "y": shared.T})
    write_safetensors(tmp_path / "b", {"y": shared.T.clone(), "x": shared.clone()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_room_for_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(WeightsError, match="TMPDIR"):
        write_safetensors(tmp_path / "w.safetensors", {"x": torch.zeros(3)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [0, 5])
def test_plain_timm_loads_a_published_timm_prior(writer: Any, tmp_path: Path, classes: int) -> None:
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("resnet18", num_classes=classes).state_dict(), tmp_path / "w.safetensors")
    details = Details(id="mine", licence="mit", input_size=64, resize=72, mean=(0.1, 0.2, 0.3))
    done = publish("org/mine", timm="resnet18", weights=tmp_path / "w.safetensors", details=details)
    network = timm.create_model(f"hf-hub:org/mine@{done.commit}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(images), pre_logits=True)
        torch.testing.assert_close(features, load_prior(done.name)(images))
    assert network.num_classes == classes
    config = timm.data.resolve_data_config(network.pretrained_cfg)
    assert (config["input_size"], config["mean"], config["crop_pct"]) == ((3, 64, 64), (0.1, 0.2, 0.3), 64 / 72)
