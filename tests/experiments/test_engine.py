from __future__ import annotations

from typing import Any

import pytest
import torch
from experiments import _grid, _subset
from experiments._data import Images
from experiments._engine import Training, learning_rate, momentum_tau
from experiments._flops import step_flops
from experiments._job import augmentations
from experiments._student import Student
from torch import Tensor

from rela_zoo.selection.subset import Draw

CPU = torch.device("cpu")
SMALL = {"hidden_dim": 16, "output_dim": 8, "prototypes": 8, "batch_size": 8, "epochs": 4, "precision": "float32"}


def settings(**changes: Any) -> dict[str, Any]:
    return _grid.normalise({**_grid.DEFAULTS, **SMALL, **changes})


def training(chosen: dict[str, Any], subset: Any = None, count: int = 20) -> tuple[Training, Student]:
    torch.manual_seed(chosen["seed"])
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    images = Images(pixels, torch.arange(count) % 2, "noise")
    targets = torch.randn(count, 6) if chosen["prior"] else None
    torch.manual_seed(chosen["seed"])
    student = Student(chosen, 6 if chosen["prior"] else None, trim=True)
    subset = subset or _subset.build(chosen, n=count, rows=None, transport=None, device=CPU)
    flops = {"own": 10, "accelerated": 1}
    return Training(chosen, student, images, targets, subset, augmentations(chosen, CPU), flops), student


class Watched:
    """A subset that gives weights and remembers what it is told."""

    def __init__(self, weights: Tensor | None) -> None:
        self.weights, self.seen, self.ended = weights, [], 0

    def draw(self, epoch: int) -> _subset.Draw:
        return Draw(torch.arange(16), self.weights)

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        self.seen.append((indices, losses))

    def end_epoch(self) -> None:
        self.ended += 1


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_tau_rises_to_one() -> None:
    assert momentum_tau(0, 10, 0.99) == pytest.approx(0.99)
    assert momentum_tau(10, 10, 0.99) == 1.0


@pytest.mark.parametrize(
    ("handover", "stages", "step"),
    [(0.0, "oooo", 0), (0.5, "aaoo", 4), (1.0, "aaaa", None), ("adaptive", "aaaa", None)],
)
def test_the_stage_changes_between_epochs(handover: Any, stages: str, step: int | None) -> None:
    one, _ = training(settings(prior="random", handover=handover))
    epochs: list[int] = []
    progress = one.train(epochs.append)
    assert epochs == [1, 2, 3, 4]
    assert "".join(stage[0] for stage in progress.stages) == stages
    assert progress.handover_step == step
    # 20 images are two batches of 8: what is left over rests.
    assert (progress.step, progress.samples_seen) == (8, 64)
    assert progress.flops == sum({"o": 20, "a": 2}[stage] for stage in stages)


@pytest.mark.parametrize("method", ["byol", "simclr", "dino"])
def test_every_method_trains_and_the_seed_decides(method: str) -> None:
    runs = [training(settings(method=method, epochs=1, seed=seed))[0].train(lambda _: None) for seed in (0, 0, 1)]
    assert runs[0].losses == runs[1].losses != runs[2].losses


def test_only_what_should_move_moves_in_the_accelerated_stage() -> None:
    one, student = training(settings(prior="random", handover=1.0, epochs=1))
    before = {name: value.clone() for name, value in student.named_parameters()}
    one.train(lambda _: None)
    moved = {name.split(".")[0] for name, value in student.named_parameters() if not torch.equal(value, before[name])}
    # The frozen head and the method's own heads rest; the momentum backbone goes on following.
    assert moved == {"backbone", "momentum"}


def test_a_trained_head_moves() -> None:
    one, student = training(settings(prior="random", handover=1.0, epochs=1, head="trained"))
    before = student.rela_head.weight.clone()
    one.train(lambda _: None)
    assert not torch.equal(before, student.rela_head.weight)


def test_runs_with_and_without_prior_start_alike() -> None:
    plain, primed = (training(settings(prior=prior))[1].state_dict() for prior in (None, "random"))
    assert all(torch.equal(value, primed[name]) for name, value in plain.items())


def test_a_policy_hears_of_every_samples_loss() -> None:
    subset = Watched(None)
    one, _ = training(settings(prior="random", handover=1.0, epochs=2), subset)
    progress = one.train(lambda _: None)
    assert subset.ended == 2
    assert torch.cat([indices for indices, _ in subset.seen]).tolist() == [*range(16), *range(16)]
    means = [float(losses.mean()) for _, losses in subset.seen]
    assert progress.losses == pytest.approx([sum(means[:2]) / 2, sum(means[2:]) / 2])


@pytest.mark.parametrize("handover", [0.0, 1.0])
def test_weights_of_zero_stop_the_backbone(handover: float) -> None:
    one, student = training(
        settings(prior="random", handover=handover, epochs=1, weight_decay=0.0), Watched(torch.zeros(16))
    )
    before = [value.clone() for value in student.backbone.parameters()]
    one.train(lambda _: None)
    assert all(torch.equal(a, b) for a, b in zip(before, student.backbone.parameters(), strict=True))


def test_weights_of_one_change_nothing() -> None:
    for handover in (0.0, 1.0):
        chosen = settings(prior="random", handover=handover, epochs=1)
        runs = [training(chosen, Watched(weights))[0].train(lambda _: None) for weights in (None, torch.ones(16))]
        assert runs[0].losses == pytest.approx(runs[1].losses)


def test_warming_up_leaves_no_trace() -> None:
    one, student = training(settings(prior="random", method="dino"))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert one.warm_up() > 0
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


def test_less_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="less than one batch of 8"):
        training(settings(data_ratio=0.2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("handover", [0.0, 1.0])
def test_host_and_device_do_not_wait_for_each_other(handover: float) -> None:
    device, chosen = torch.device("cuda"), settings(prior="random", handover=handover, precision="bfloat16")
    pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, device=device)
    images = Images(pixels, torch.arange(16, device=device) % 2, "noise")
    student, targets = Student(chosen, 6, trim=True).to(device), torch.randn(16, 6, device=device)
    subset, flops = _subset.build(chosen, n=16, rows=None, transport=None, device=device), {"own": 1, "accelerated": 1}
    one = Training(chosen, student, images, targets, subset, augmentations(chosen, device), flops)
    indices = torch.arange(8, device=device)
    one._step(indices, None, 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        one._step(indices, None, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_operations_are_those_of_the_published_network() -> None:
    # ResNet-18 with the CIFAR stem at 32 pixels: 0.556 G multiply-adds an image (github kuangliu/pytorch-cifar).
    counted = step_flops(settings(stem="cifar", prior="random", hidden_dim=16), 6, 32)
    forward = 2 * 0.556e9 * 8 * 2  # of 8 images, two views
    assert counted["accelerated"] == pytest.approx(3 * forward, rel=0.02)
    # The momentum network adds a forward pass.
    assert counted["own"] == pytest.approx(4 * forward, rel=0.02)
    assert step_flops(settings(), None, 32)["own"] == step_flops(settings(trim=False), None, 32)["own"]
