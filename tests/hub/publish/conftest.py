"""A home-made prior with embeddings and a transport, and a Hub to publish it on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from rela_zoo.hub.publish import Publication, publish

ENTRY = {
    "id": "home-made",
    "title": "A ResNet-8 of one's own",
    "source": "local",
    "family": "cifar-resnet",
    "architecture": "resnet8",
    "dim": 64,
    "file": "home-made.safetensors",
    "licence": "mit",
    "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
    "training_data": "none, random weights",
}


@dataclass(frozen=True)
class Home:
    """What a publisher has on disk."""

    folder: Path

    @property
    def entry(self) -> Path:
        return self.folder / "home-made.yaml"

    @property
    def weights(self) -> Path:
        return self.folder / "home-made.safetensors"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def embeddings(self) -> Path:
        return self.folder / "embeddings"

    @property
    def transport(self) -> Path:
        return self.folder / "transport.safetensors"

    def change_entry(self, **fields: Any) -> None:
        self.entry.write_text(yaml.safe_dump({**yaml.safe_load(self.entry.read_text()), **fields}))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    from rela_zoo import embed, fit_transport, load_prior
    from rela_zoo.networks.cifar_resnet import CifarResNet

    home = Home(tmp_path_factory.mktemp("publisher"))
    home.entry.write_text(yaml.safe_dump(ENTRY))
    torch.manual_seed(0)
    network = CifarResNet(8)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    save_file(network.state_dict(), home.weights)
    generator = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (home.images / label).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                home.images / label / f"{number}.png"
            )
    with pytest.warns(UserWarning, match="no known hash"):
        prior = load_prior(home.entry)
    table = embed(prior, home.images, home.embeddings, progress=False)
    fit_transport(table, max_dim=8, progress=False).save(home.transport)
    return home


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    """A copy that a test may change."""
    return Home(Path(shutil.copytree(made.folder, tmp_path / "publisher")))


@pytest.fixture
def writer(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, with a token that may write."""
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    return hub


@pytest.fixture
def send(home: Home) -> Callable[..., Publication]:
    """`publish` of everything at home."""

    def call(repo: str = "org/home-made", **changes: Any) -> Publication:
        options: dict[str, Any] = {
            "entry": home.entry,
            "embeddings": {"zoo": home.embeddings},
            "transports": {"zoo": home.transport},
        }
        return publish(repo, **{**options, **changes})

    return call
