"""What the accelerated loss aims at: powers, components, heads, several priors, the student itself; and mixtures."""

import numpy as np
import pytest
import torch
from torch import nn

from rela_zoo import Accelerator, RunShape
from rela_zoo.engine import Student
from rela_zoo.errors import ConfigError, RelaZooError

N, WIDTH, BATCH = 40, 12, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(N, WIDTH)).astype(np.float32))
INDICES = torch.tensor([7, 3, 0, 39])


def accelerator(epochs=4, student=None, max_steps=None, **rela):
    rela = {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": 0.5, **rela}
    shape = RunShape(batch_size=BATCH, epochs=epochs, seed=3, max_steps=max_steps)
    return Accelerator(IMAGES, features_dim=WIDTH, run=shape, rela=rela, student=student)


def slow_loss(targets, head, k, power):
    """Sample by sample, component by component, in float64."""
    rows, total = targets.table.rows(np.arange(N)).double().numpy(), 0.0
    mean = rows.mean(0)
    variances, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    order = np.argsort(variances)[::-1][:k]
    for index in INDICES.tolist():
        target = []
        for number, one in enumerate(order):
            # The sign of a component is a convention.
            sign = np.sign(vectors[:, one] @ targets.transport.components[:, number].double().numpy())
            target.append(sign * (rows[index] - mean) @ vectors[:, one] / np.sqrt(variances[one]) ** power)
        with torch.no_grad():
            guess = head(FEATURES[index]).double().numpy()
        total += 1 - guess @ np.array(target) / np.linalg.norm(guess) / np.linalg.norm(target)
    return total / len(INDICES)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("head", ["frozen", "trained", "mlp"])
def test_the_loss_by_power_and_head(power, head):
    of = accelerator(power=power, head=head)
    with torch.no_grad():
        found = float(of.loss([FEATURES[INDICES]], INDICES))
    assert found == pytest.approx(slow_loss(of.targets[0], of.head, of.dims[0], power), abs=2e-5)
    assert [one.requires_grad for one in of.head.parameters()] == [head != "frozen"] * (4 if head == "mlp" else 2)
    assert len(of.parameters()) == {"frozen": 0, "trained": 2, "mlp": 4}[head]


def test_a_linear_head_is_the_same_frozen_and_trained():
    frozen, trained = accelerator(head="frozen").head, accelerator(head="trained").head
    assert torch.equal(frozen.weight, trained.weight)


def test_components_by_number_and_by_variance():
    ratios = np.array(accelerator().targets[0].transport.stats.explained_variance_ratio)
    for wanted in (0.5, 0.8):
        enough = next(k for k in range(1, len(ratios) + 1) if ratios[:k].sum() >= wanted)
        assert accelerator(components=wanted).dims == (min(enough, WIDTH),)
    assert accelerator(components=3).dims == (3,)
    assert accelerator(components=500).dims == (WIDTH,)  # no more than the features hold
    for wrong in (0, -1, 0.0, 1.5, "many"):
        with pytest.raises(ConfigError, match=r"rela\.components"):
            accelerator(components=wrong)


def test_several_priors_count_alike_each_with_a_head_of_its_own():
    one, other = accelerator(), accelerator(prior="random-resnet18")
    both = accelerator(prior=["random-test_resnet", "random-resnet18"])
    assert both.dims == one.dims + other.dims
    assert len(both.head) == 2
    with torch.no_grad():
        losses = [slow_loss(both.targets[i], both.head[i], both.dims[i], 0.5) for i in (0, 1)]
        assert float(both.loss([FEATURES[INDICES]], INDICES)) == pytest.approx(sum(losses) / 2, abs=2e-5)
    assert torch.equal(both.head[0].weight, one.head.weight)  # what is first is as if it were alone
    again = accelerator(prior=["random-test_resnet", "random-resnet18"])
    again.load_state_dict(both.state_dict())
    with pytest.raises(RelaZooError, match="other embeddings"):
        one.load_state_dict(both.state_dict())


@pytest.mark.parametrize(
    ("rela", "key"),
    [
        ({"prior": ["random-test_resnet", "random-test_resnet"]}, "rela.prior"),
        ({"prior": []}, "rela.prior"),
        ({"prior": ["random-test_resnet", "no-such"]}, r"rela.prior\[1\]"),
        ({"prior": ["random-test_resnet", "random"], "embeddings": "x"}, "rela.embeddings"),
        ({"prior": ["random-test_resnet", "random"], "transport": ["x", "y", "z"]}, "rela.transport"),
        ({"prior": "self", "embeddings": "x"}, "rela.embeddings"),
        ({"power": 1.5}, "rela.power"),
        ({"mix": "cosine"}, "rela.mix"),
        ({"head": "deep"}, "rela.head"),
    ],
)
def test_mistakes_are_named(rela, key):
    with pytest.raises(ConfigError, match=key):
        accelerator(**rela)


def test_the_student_itself():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    student = Student(network, 8, [0.5] * 3, [0.25] * 3)
    of = accelerator(prior="self", student=student)
    with torch.no_grad():
        images = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        wanted = network.eval()(images)
    rows = of.targets[0].table.rows(np.arange(N)).float()
    scale = float((rows * wanted).sum() / wanted.square().sum())  # a power of two, for the sake of float16
    assert torch.allclose(rows, scale * wanted, atol=2e-3 * float(rows.abs().max()))
    assert "prior self" in of.banner()
    with pytest.raises(ConfigError, match="knows its student"):
        accelerator(prior="self")


def test_a_student_that_differs_from_rank_to_rank_is_refused(monkeypatch):
    from rela_zoo.engine import targets

    student = Student(nn.Sequential(nn.Conv2d(3, WIDTH, 8), nn.Flatten()), 8, [0.5] * 3, [0.25] * 3)
    monkeypatch.setattr(targets.ranks, "gather", lambda value: [value, "that of another seed"])
    with pytest.raises(ConfigError, match="same weights on every rank"):
        accelerator(prior="self", student=student)


def mixtures(of, epochs):
    """(stage, λ) of each batch, by what `mixed` makes of an own loss of 0 and of 1."""
    seen = []
    for epoch in range(epochs):
        of.start_epoch(epoch)
        for accelerated, indices in of.batches(list((torch.tensor(list(of.sampler)) % N).split(BATCH)), epoch):
            if accelerated:
                of.loss([FEATURES[indices]], indices)
                seen.append((True, None))
                continue
            with torch.no_grad():
                low, high = (of.mixed(torch.tensor(own), [FEATURES[indices]], indices) for own in (0.0, 1.0))
            seen.append((False, 1.0 - float(high - low)))
    return seen


def test_mixtures():
    linear = mixtures(accelerator(mix="linear"), 4)
    assert [stage for stage, _ in linear] == [True] * 8 + [False] * 8
    assert [share for _, share in linear[8:]] == pytest.approx([1 - i / 8 for i in range(8)], abs=1e-6)
    assert [share for _, share in mixtures(accelerator(mix=0.3, handover=0.0), 4)] == pytest.approx(
        [0.3] * 16, abs=1e-6
    )
    whole = mixtures(accelerator(mix="linear", handover=0.0), 4)
    assert [share for _, share in whole] == pytest.approx([1 - i / 16 for i in range(16)], abs=1e-6)
    of = accelerator(mix=0.5, handover=0.0)
    with torch.no_grad():
        alone = float(of.loss([FEATURES[INDICES]], INDICES))
    assert float(of.mixed(torch.tensor(3.0), [FEATURES[INDICES]], INDICES)) == pytest.approx((alone + 3) / 2, abs=1e-5)


def test_a_mixture_that_nobody_makes_is_found_out():
    of = accelerator(mix=0.3, handover=0.0)
    of.start_epoch(0)
    with pytest.raises(RelaZooError, match=r"rela\.mix is set"):
        for _ in of.batches([INDICES], 0):
            pass


def test_a_linear_mixture_needs_an_end():
    with pytest.raises(ConfigError, match=r"rela\.mix=linear"):
        accelerator(epochs=None, handover="adaptive", mix="linear")
    with pytest.raises(ConfigError, match=r"rela\.handover=plateau"):
        accelerator(epochs=None, handover="plateau")


def test_schedules_by_stage():
    of = accelerator(rewarm=True)
    assert of.own_schedule(3, 16) == (3, 16)
    mixtures(of, 4)
    assert of.handover_step == 8
    assert [of.own_schedule(step, 16) for step in (8, 10, 16)] == [(0, 8), (2, 8), (8, 8)]
    plain = accelerator()
    mixtures(plain, 4)
    assert plain.own_schedule(10, 16) == (10, 16)
