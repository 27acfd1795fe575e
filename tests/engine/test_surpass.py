"""The handover once the student tells the classes apart as well as its prior: what is compared, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rela_zoo import Accelerator, RunShape
from rela_zoo.data import ImageSource
from rela_zoo.engine import Student
from rela_zoo.engine.surpass import Judge, SurpassHandover
from rela_zoo.errors import ConfigError, RelaZooError

N, SIZE = 200, 8


class Stripes(ImageSource):
    """Images of three classes: noise on red, green or blue; every tenth has no label."""

    def __init__(self, labelled: bool = True, count: int = N) -> None:
        self.numbers = np.arange(count) * 7 % 3
        self._label([-1 if i % 10 == 0 else int(c) for i, c in enumerate(self.numbers)] if labelled else None, None)
        self._noise = np.random.default_rng(0).integers(0, 128, (count, 11, SIZE, 3), dtype=np.uint8)

    @property
    def ids(self) -> list[str]:
        return [f"{i:03d}" for i in range(len(self.numbers))]

    def raw(self, index: int) -> bytes:
        return self._noise[index].tobytes()

    def image(self, index: int) -> Image.Image:
        pixels = self._noise[index].copy()
        pixels[..., self.numbers[index]] += 100
        return Image.fromarray(pixels)

    def describe(self) -> str:
        return "stripes"


class Rows:
    """A prior's rows: `share` of them say the class, the rest say another one."""

    def __init__(self, source: Stripes, share: float) -> None:
        told = np.where(np.random.default_rng(1).random(len(source)) < share, source.numbers, source.numbers + 1)
        self._rows = torch.eye(3)[torch.from_numpy(told % 3)]

    def rows(self, indices: Tensor) -> Tensor:
        return self._rows[indices].half()


def judge(network: nn.Module, share: float = 1.0, source: Stripes | None = None) -> Judge:
    source = source or Stripes()
    student = Student(network, SIZE, (0.5,) * 3, (0.25,) * 3)
    targets: Any = [Rows(source, 0.0), Rows(source, share)]
    return Judge(student, source, targets, 3, torch.device("cpu"))


def means() -> nn.Module:
    """A student that knows: the mean of each channel."""
    return nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def slow_accuracy(rows: np.ndarray, labels: np.ndarray) -> float:
    """Image by image: the 20 nearest of the first half, a vote by exp(cosine / 0.07)."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    half, right = len(rows) // 2, 0
    for row, label in zip(rows[half:], labels[half:], strict=True):
        cosines = rows[:half] @ row
        votes = np.zeros(3)
        for one in np.argsort(-cosines, kind="stable")[:20]:
            votes[labels[one]] += np.exp(cosines[one] / 0.07)
        right += votes.argmax() == label
    return right / (len(rows) - half)


def test_what_is_compared() -> None:
    of = judge(means())
    assert of.images == N - N // 10, "those without a label say nothing"
    assert of.wanted == 1.0, "the best of the priors"
    assert of.student() > 0.9
    source, picks = Stripes(), np.random.default_rng([3, N]).permutation([i for i in range(N) if i % 10])
    network = nn.Sequential(nn.Conv2d(3, 4, SIZE), nn.Flatten())
    images = []
    for i in picks:
        pixels = (
            np.asarray(source.image(int(i)))[2:10] / 255
        )  # the shorter side is 8 already; the centre of 11 rows is cut out
        images.append((pixels.transpose(2, 0, 1) - 0.5) / 0.25)
    with torch.no_grad():
        rows = network(torch.tensor(np.array(images), dtype=torch.float32)).numpy()
    assert judge(network).student() == pytest.approx(slow_accuracy(rows.astype(np.float64), source.numbers[picks]))


def test_looking_leaves_no_trace() -> None:
    network = means().train()
    network[1].eval()
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    first = judge(network)
    assert first.student() == first.student()
    assert [one.training for one in network.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert judge(network.to(torch.bfloat16)).student() > 0.9


def test_the_rule() -> None:
    class Script:
        wanted, images, found = 0.6, 10, iter([0.3, 0.6, 0.1])

        def student(self) -> float:
            return next(self.found)

    rule = SurpassHandover(Script())  # type: ignore[arg-type]
    assert (rule.handed_over, float(rule.update(1.0))) == (False, 0.0)
    rule.look()
    assert (rule.handed_over, float(rule.update(1.0))) == (False, 0.5)
    kept = rule.state_dict()
    rule.look()
    assert (rule.handed_over, float(rule.update(1.0))) == (True, 1.0)
    rule.look()
    assert rule.handed_over, "once and for good"
    again = SurpassHandover(Script())  # type: ignore[arg-type]
    again.load_state_dict(kept)
    assert (again.handed_over, float(again.update(1.0))) == (False, 0.5)


def accelerator(network: nn.Module | None, source: Stripes, **rela: Any) -> Accelerator:
    student = None if network is None else Student(network, SIZE, (0.5,) * 3, (0.25,) * 3)
    rela = {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": "surpass", **rela}
    return Accelerator(source, features_dim=3, run=RunShape(batch_size=10, epochs=4), rela=rela, student=student)


class Blind(nn.Module):
    """A student that sees nothing: all features are alike."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 4)


@pytest.mark.parametrize("knows", [True, False])
def test_it_ends_the_stage_at_the_end_of_an_epoch(knows: bool) -> None:
    of = accelerator(means() if knows else Blind(), Stripes())
    assert "20-NN accuracy of the prior: " in of.banner()
    assert 0.5 < of._stage.rule.judge.wanted <= 1.0  # type: ignore[attr-defined]
    features, stages = torch.randn(N, 3, requires_grad=True), []
    for epoch in range(3):
        of.start_epoch(epoch)
        stages.append([])
        for accelerated, indices in of.batches(list((torch.tensor(list(of.sampler)) % N).split(10)), epoch):
            stages[-1].append(accelerated)
            if accelerated:
                of.loss([features[indices]], indices)
    assert stages == [[True] * 10, [not knows] * 10, [not knows] * 10]


def test_it_looks_once_an_epoch_and_not_after_the_handover() -> None:
    of = accelerator(means(), Stripes())
    looks, rule = [], of._stage.rule
    rule.look = lambda: looks.append(of.epoch) or SurpassHandover.look(rule)  # type: ignore[method-assign]
    for epoch in range(3):
        of.start_epoch(epoch)
        of.end_epoch(epoch, step=epoch + 1)
        of.end_epoch(epoch, step=epoch + 1)
    assert looks == [0]


@pytest.mark.parametrize("of", ["one class", "a class each", "a rare one"])
def test_labels_that_tell_nothing_are_refused(of: str) -> None:
    class Odd(Stripes):
        def __init__(self) -> None:
            super().__init__()
            labels = {"one class": [0] * N, "a class each": [*range(N)], "a rare one": [0] * (N - 1) + [1]}[of]
            self._label(labels, None)

    with pytest.raises(ConfigError, match="better than the commonest one"):
        accelerator(means(), Odd())


def test_a_student_that_gives_something_else() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return images.mean((2, 3)), None

    with pytest.raises(ConfigError, match=r"features \(B, m\), for surpass, got tuple"):
        accelerator(Pair(), Stripes())
    with pytest.raises(ConfigError, match=r"got \(\)"):
        accelerator(type("Sum", (nn.Module,), {"forward": lambda self, images: images.sum()})(), Stripes())
    lost = judge(means())
    lost._network = nn.Sequential(means(), nn.Threshold(1e9, float("nan")))
    assert lost.student() == 0.0


def test_without_a_prior_there_is_nothing_to_surpass() -> None:
    of = accelerator(None, Stripes(labelled=False), prior=None)
    assert [one.accelerated for one in of.batches(list(torch.arange(20).split(10)), 0)] == [False, False]


@pytest.mark.parametrize(
    ("then", "now"), [(0.5, "surpass"), ("surpass", 0.5), ("adaptive", "plateau"), ("plateau", 1.0)]
)
def test_a_checkpoint_of_another_rule_is_refused(then: Any, now: Any) -> None:
    state = accelerator(means(), Stripes(), handover=then).state_dict()
    with pytest.raises(RelaZooError, match=r"another rule of rela\.handover"):
        accelerator(means(), Stripes(), handover=now).load_state_dict(state)


def test_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="labels, to see when"):
        accelerator(means(), Stripes(labelled=False))
    with pytest.raises(ConfigError, match="18 images with one"):
        accelerator(means(), Stripes(count=20), data_ratio=1.0)
    with pytest.raises(ConfigError, match="knows its student, for surpass"):
        accelerator(None, Stripes())
