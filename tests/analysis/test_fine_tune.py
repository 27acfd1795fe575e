"""Fine-tuning begins as the linear probe, trains a copy, and learns what features alone can't tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rela_zoo.analysis.evaluate import extract_features, fine_tune, fit_linear_probe
from rela_zoo.data.views import RandomPart
from rela_zoo.errors import RelaZooError


class _Blind(nn.Module):
    """Sees the first channel alone, until it learns otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[:, 0] = torch.tensor([1.0, -1.0, 0.5, 2.0])[:, None, None]
            self.mix.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x).mean((2, 3))


def _images(count: int, seed: int, labels: tuple[int, ...] = (3, 7, 20)) -> TensorDataset:
    """The class is in the second channel, and only a hint of it in the first."""
    generator = torch.Generator().manual_seed(seed)
    where = torch.randint(len(labels), (count,), generator=generator)
    images = torch.randn(count, 3, 4, 4, generator=generator)
    images[:, 1] += 3.0 * (where - 1)[:, None, None]
    images[:, 0] += 0.1 * (where - 1)[:, None, None]
    return TensorDataset(images, torch.tensor(labels)[where])


@pytest.mark.parametrize("labels", [(3, 7, 20), (-1, 4)])
def test_the_layer_makes_the_probes_decisions(labels: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    y = np.array(labels)[generator.integers(0, len(labels), 300)]
    x = (generator.normal(size=(300, 5)) * [1, 100, 0.01, 1, 0] + [0, 5, 0, 0, 7]).astype(np.float32)
    x[:, 0] += np.searchsorted(labels, y)
    probe = fit_linear_probe(x, y)
    with torch.no_grad():
        scores = probe.as_layer()(torch.from_numpy(x)).numpy()
    assert scores.shape == (300, len(labels))
    assert np.array_equal(probe.classes[scores.argmax(axis=1)], probe.predict(x))
    wanted = probe.model.predict_proba(((x - probe.mean) * probe.scale).astype(np.float32))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert np.allclose(shares / shares.sum(axis=1, keepdims=True), wanted, atol=1e-4)


def test_it_learns_what_the_features_do_not_tell() -> None:
    backbone = _Blind()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    train, test = _images(300, 0), _images(200, 1)
    state = torch.random.get_rng_state()
    found = fine_tune(backbone, train, test, epochs=12, lr=0.03)
    assert found.before < 0.6, "the first channel alone says little"
    assert found.accuracy > 0.9
    assert set(found.predictions) <= {3, 7, 20}
    scores, labels = extract_features(found.network, test)
    assert found.accuracy == np.mean(np.array([3, 7, 20])[scores.argmax(axis=1)] == labels)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(fine_tune(backbone, train, test, epochs=12, lr=0.03).predictions, found.predictions)


def test_no_step_leaves_the_probe_as_it_is() -> None:
    train, test = _images(100, 0), _images(80, 1)
    found = fine_tune(_Blind(), DataLoader(train, batch_size=16), test, epochs=1, lr=0.0)
    assert found.accuracy == found.before


def test_it_trains_on_the_augmented_images() -> None:
    train, test = _images(300, 0), _images(200, 1)
    images, labels = train.tensors
    lying = TensorDataset(images, torch.tensor([7, 20, 3])[torch.searchsorted(torch.tensor([3, 7, 20]), labels)])
    found = fine_tune(_Blind(), train, test, augmented=lying, epochs=12, lr=0.03)
    assert found.accuracy < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "needs an epoch"), ({"epochs": 3, "lr": 1e30}, "not finite")],
)
def test_what_is_refused(options: dict, message: str) -> None:
    with pytest.raises(RelaZooError, match=message):
        fine_tune(_Blind(), _images(100, 0), _images(50, 1), **options)


def test_a_network_without_weights() -> None:
    with pytest.raises(RelaZooError, match="no weights"):
        fine_tune(nn.Flatten(), _images(100, 0), _images(50, 1))


def test_random_parts() -> None:
    from PIL import Image

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :, 0] = np.arange(60)
    image = Image.fromarray(pixels)
    torch.manual_seed(0)
    areas, mirrored = [], 0
    for _ in range(200):
        part = np.asarray(RandomPart(0.25)(image))
        areas.append(part.shape[0] * part.shape[1] / 2400)
        mirrored += bool(part[0, 0, 0] > part[0, -1, 0])
    assert 0.45 <= min(areas) < 0.6
    assert 0.85 < max(areas) <= 1.0
    assert 30 <= mirrored <= 70
