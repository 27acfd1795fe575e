"""The losses against lightly's, which are other people's work."""

from __future__ import annotations

import pytest
import torch
from experiments._grid import DEFAULTS
from experiments._losses import byol_loss, dino_loss, nt_xent_loss
from experiments._methods import build_method
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 16, generator=generator), torch.randn(8, 16, generator=generator)


def test_byol(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.testing.assert_close(byol_loss(*pair), 2 + 2 * NegativeCosineSimilarity()(*pair))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent(pair: tuple[torch.Tensor, torch.Tensor], temperature: float) -> None:
    torch.testing.assert_close(nt_xent_loss(*pair, temperature), NTXentLoss(temperature=temperature)(*pair))


def test_dino(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    theirs = DINOLoss(output_dim=16, warmup_teacher_temp=0.04, teacher_temp=0.04, warmup_teacher_temp_epochs=1)
    teacher = [x.flip(0) for x in pair]
    ours = dino_loss(list(pair), teacher, torch.zeros(16), 0.04)
    torch.testing.assert_close(ours, theirs(teacher, list(pair), epoch=0))


def test_no_gradient_flows_into_targets(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    prediction, target = (x.clone().requires_grad_() for x in pair)
    byol_loss(prediction, target).backward()
    assert prediction.grad is not None
    assert target.grad is None


@pytest.mark.parametrize("name", ["byol", "simclr", "dino"])
def test_every_method_teaches_all_of_its_parts(name: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    method = build_method(16, {**DEFAULTS, "method": name, "hidden_dim": 8, "output_dim": 4, "prototypes": 6})
    targets = [method.projector(x).detach() for x in pair] if method.has_momentum else []
    method([method.outputs(x) for x in pair], targets, 0.0).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


def test_the_centre_follows_the_teacher() -> None:
    method = build_method(4, {**DEFAULTS, "method": "dino", "hidden_dim": 8, "output_dim": 4, "prototypes": 6})
    targets = [torch.ones(5, 6), 3 * torch.ones(5, 6)]
    method([torch.randn(5, 6), torch.randn(5, 6)], targets, 0.0)
    torch.testing.assert_close(method.centre, torch.full((6,), 0.2))
