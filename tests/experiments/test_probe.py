from __future__ import annotations

import pytest
import torch
from experiments._data import Images
from experiments._probe import evaluate, linear_probe

from rela_zoo import evaluate as reference


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_the_probe_agrees_with_scikit_learn(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 20, generator=generator)
    labels = torch.arange(900) % 5
    features = centres[labels] + spread * torch.randn(900, 20, generator=generator)
    features[:, 3] = 7.0  # says nothing
    split = features[:600], labels[:600], features[600:], labels[600:]
    assert linear_probe(*split) == pytest.approx(reference.linear_probe(*split), abs=0.007)


def test_features_that_are_not_finite_are_refused() -> None:
    x, y = torch.full((4, 2), float("nan")), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="diverged"):
        linear_probe(x, y, x, y)


def test_judging_leaves_the_network_as_it_was() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Linear(12, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = Images(torch.randint(0, 256, (30, 3, 2, 2), dtype=torch.uint8), torch.arange(30) % 3, "noise")
    found = evaluate(network, images, images, "float32")
    assert set(found) == {"linear_accuracy", "knn_accuracy"}
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
