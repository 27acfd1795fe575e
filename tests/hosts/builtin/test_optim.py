"""Optimisers and schedules against independent ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightly.utils.lars import LARS as LightlyLARS

from rela_zoo.hosts.builtin.optim import LARS, build_scheduler, split_weight_decay, warmup_cosine


def steps(optimiser_class: Any, count: int = 4, **settings: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2)).double()
    optimiser = optimiser_class(network.parameters(), **settings)
    for _ in range(count):
        optimiser.zero_grad()
        network(torch.randn(6, 4).double()).square().sum().backward()
        optimiser.step()
    return [p.detach().clone() for p in network.parameters()]


def test_lars_against_lightlys() -> None:
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2}
    ours = steps(LARS, eta=0.02, **settings)
    theirs = steps(LightlyLARS, trust_coefficient=0.02, **settings)
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(ours, theirs, strict=True))


def test_lars_excluding_vectors_and_clipping_against_the_formula() -> None:
    weight, bias = torch.nn.Parameter(torch.full((2, 2), 3.0)), torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weight.grad, bias.grad = torch.full((2, 2), 0.01), torch.tensor([0.5, -0.5])
    optimiser = LARS([weight, bias], lr=0.1, weight_decay=0.1, eta=1.0, clip_lr=True, exclude_bias_n_norm=True)
    # ‖w‖ = 6, ‖g‖ = 0.02: the adaptive rate 6 / 0.62 ≈ 9.7 is clipped to the plain one.
    optimiser.step()
    assert torch.allclose(weight, torch.full((2, 2), 3.0 - 0.1 * (0.01 + 0.1 * 3.0)))
    assert torch.allclose(bias, torch.tensor([1.0 - 0.05, 2.0 + 0.05]))
    weight.grad, bias.grad = torch.full((2, 2), 5.0), torch.zeros(2)
    free = LARS([weight], lr=0.1, eta=0.02)
    before = weight.detach().clone()
    free.step()
    trust = 0.02 * float(before.norm()) / 10.0
    assert torch.allclose(weight, before - 0.1 * trust * 5.0)


def test_warmup_cosine_shape() -> None:
    rates = [warmup_cosine(step, 1.0, warmup=5, total=25, start=0.2, end=0.1) for step in range(26)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0)
    assert rates[15] == pytest.approx(0.55)
    assert rates[25] == pytest.approx(0.1)
    assert rates[8] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 3 / 20)))
    assert warmup_cosine(0, 1.0, warmup=0, total=10, start=0.3, end=0.0) == 1.0
    assert warmup_cosine(99, 1.0, warmup=0, total=10, start=0.3, end=0.0) == 0.0


def run_schedule(name: str, interval: str, **changes: Any) -> list[list[float]]:
    first, second = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=1.0)
    settings: dict[str, Any] = {
        "static_groups": [],
        "steps_per_epoch": 3.0,
        "max_epochs": 6,
        "interval": interval,
        "warmup_epochs": 2,
        "warmup_start_lr": 0.1,
        "min_lr": 0.05,
        "decay_epochs": [2, 4],
        **changes,
    }
    schedule = build_scheduler(optimiser, name, **settings)
    rates = []
    for _ in range(18):
        rates.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return rates


def test_schedules_by_step_and_by_epoch() -> None:
    by_step = run_schedule("warmup_cosine", "step")
    for step, (first, second) in enumerate(by_step):
        assert first == pytest.approx(warmup_cosine(step, 1.0, warmup=6, total=18, start=0.1, end=0.05))
        assert second == pytest.approx(warmup_cosine(step, 0.5, warmup=6, total=18, start=0.1, end=0.05))
    by_epoch = run_schedule("warmup_cosine", "epoch")
    for step, (first, _) in enumerate(by_epoch):
        assert first == pytest.approx(warmup_cosine(step // 3, 1.0, warmup=2, total=6, start=0.1, end=0.05))
    assert [first for first, _ in run_schedule("step", "step")] == pytest.approx([1.0] * 6 + [0.1] * 6 + [0.01] * 6)


def test_a_static_group_keeps_its_rate() -> None:
    rates = run_schedule("warmup_cosine", "step", static_groups=[1])
    assert {second for _, second in rates} == {0.5}
    assert len({first for first, _ in rates}) > 5


def test_vectors_get_no_weight_decay() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
    groups = split_weight_decay([{"name": "net", "params": network.parameters(), "lr": 0.1}])
    assert [(g["name"], g.get("weight_decay"), g["lr"], len(g["params"])) for g in groups] == [
        ("net", None, 0.1, 1),
        ("net_no_decay", 0.0, 0.1, 3),
    ]
