"""Free priors of the experiments, and the embeddings of the training images, with what they cost."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments._backbone import build_backbone
from experiments._data import Images, normalise
from rela_zoo._io.digest import file_sha256
from rela_zoo.networks.cifar_resnet import CifarResNet

_ROOT = Path(__file__).resolve().parents[2]
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 500


@dataclass(frozen=True)
class Prior:
    """A frozen network for 32-pixel images, how to normalise them for it, and a digest of its weights."""

    name: str
    build: Callable[[], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str


@dataclass(frozen=True)
class Embeddings:
    """Rows (N, D) float32 on the device of the images, and what making them took."""

    rows: Tensor
    seconds: float
    flops: int


def find_prior(name: str, folder: Path | None) -> Prior:
    """A prior by name: `random`, `cifar10-resnet20` (shipped), or `resnet20|32|44|56` (public, from `folder`).

    Raises:
        FileNotFoundError, ValueError: with what was expected.
    """
    if name == "random":
        entry = _entry("random")
        return Prior(name, lambda: _random(entry["seed"]), *_statistics(entry), f"seed {entry['seed']}")
    if name == "cifar10-resnet20":
        path = _ROOT / "rela_zoo" / "weights" / "cifar10-resnet20.safetensors"
        return Prior(name, lambda: _cifar_resnet(20, path), *_statistics(_entry(name)), file_sha256(path))
    if match := re.fullmatch(r"resnet(20|32|44|56)", name):
        path = (folder or Path("priors")) / f"cifar10-{name}.safetensors"
        if folder is None or not path.is_file():
            raise FileNotFoundError(
                f"the prior {name} needs {path.name}, which is not in {folder or 'a folder given'}; point --priors at "
                "the folder of public networks, or leave these runs out with --only"
            )
        return Prior(name, lambda: _cifar_resnet(int(match[1]), path), *_IMAGENET, file_sha256(path))
    raise ValueError(f"expected a prior random, cifar10-resnet20 or resnet20|32|44|56, got {name!r}")


def embed(prior: Prior, images: Images, cache: Path) -> Embeddings:
    """Embed images without augmentation in float32, or take the rows from the cache with what they had cost."""
    device = images.pixels.device
    what = f"{prior.name}-{prior.digest[:12]}-{images.digest[:16]}-{len(images)}-{device.type}".replace(" ", "")
    path = cache / f"{what}.safetensors"
    if path.exists():
        with safe_open(path, "pt") as file:
            cost = json.loads(file.metadata()["cost"])
            return Embeddings(file.get_tensor("rows").to(device), **cost)
    network = prior.build().eval().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *images.pixels.shape[1:]))
    network = network.to(device, memory_format=torch.channels_last)
    started = time.perf_counter()
    with torch.no_grad():
        parts = [network(normalise(x, prior.mean, prior.std)) for x in images.pixels.split(_BATCH)]
    rows = torch.cat(parts).float()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    cost = {"seconds": time.perf_counter() - started, "flops": counter.get_total_flops() * len(images)}
    cache.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache, suffix=".tmp")
    os.close(handle)
    save_file({"rows": rows.cpu().contiguous()}, name, metadata={"cost": json.dumps(cost)})
    os.replace(name, path)
    return Embeddings(rows, **cost)


def _entry(name: str) -> dict:
    return yaml.safe_load((_ROOT / "registry" / f"{name}.yaml").read_text(encoding="utf-8"))


def _statistics(entry: dict) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(entry["preprocessing"]["mean"]), tuple(entry["preprocessing"]["std"])


def _cifar_resnet(depth: int, path: Path) -> nn.Module:
    network = CifarResNet(depth)
    state = {name: value.float() for name, value in load_file(path).items() if not name.startswith("linear.")}
    missing, unexpected = network.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"{path} is no ResNet-{depth}: missing {missing}, unexpected {unexpected}")
    return network


def _random(seed: int) -> nn.Module:
    """The network of registry/random.yaml, drawn from its seed; as in rela_zoo.prior, no branch is left at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return build_backbone("resnet18", "cifar", trim=False)
