"""Parameters and multiply-adds, against numbers worked out by hand and published ones."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from rela_zoo.networks.cost import count_cost
from rela_zoo.prior import with_cost
from rela_zoo.registry import packaged_priors, prior_spec


class Attention(nn.Module):
    """One head over the rows of an image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = image.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(rows, rows, rows).mean(1)


def test_layers_cost_what_paper_and_pencil_say() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip
    cost = count_cost(network, 16)
    assert cost.parameters == 3 * 8 * 9 + 2 * 8 + 8 * 9 + 8 + 8 * 5 + 5
    assert cost.macs == 8 * 8 * (3 * 8 * 9 + 8 * 9) + 8 * 5
    # Every row with every other, once for the weights and once for the sum: 2 · N² · D.
    assert count_cost(Attention(), 8).macs == 2 * 64 * 64 * 3


def test_shapes_alone_are_enough() -> None:
    def make() -> nn.Module:
        return timm.create_model("resnet18", num_classes=0).eval()

    with torch.device("meta"):
        shapes = make()
    assert count_cost(shapes, 64) == count_cost(make(), 64)


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"), [("imagenet1k-resnet50", 25.56 - 2.05, 4.09), ("dino-vit-s16", 21.7, 4.6)]
)
def test_published_numbers(name: str, parameters: float, gmacs: float) -> None:
    """Of the papers' tables (He et al. 2015, Touvron et al. 2021), without the classifier."""
    spec = prior_spec(name)
    assert spec.parameters is not None
    assert spec.gmacs is not None
    assert spec.parameters / 1e6 == pytest.approx(parameters, rel=0.01)
    assert spec.gmacs == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("spec", [one for one in packaged_priors() if one.gmacs is not None], ids=lambda one: one.id)
def test_every_entry_says_what_is_counted(spec) -> None:  # type: ignore[no-untyped-def]
    empty = spec.model_copy(update={"parameters": None, "gmacs": None})
    counted = with_cost(empty)
    assert (counted.parameters, counted.gmacs) == (spec.parameters, spec.gmacs)


def test_what_nobody_here_builds_is_left_as_it_is() -> None:
    spec = prior_spec("yolov9")
    assert with_cost(spec) is spec


def test_of_another_size() -> None:
    whole, small = (with_cost(prior_spec(name)) for name in ("cifar10-resnet20", "cifar10-resnet20@16"))
    assert prior_spec("cifar10-resnet20@16").gmacs is None, "that of the entry is for its own size"
    assert small.parameters == whole.parameters
    assert whole.gmacs is not None
    assert small.gmacs == pytest.approx(whole.gmacs / 4, rel=0.01)
