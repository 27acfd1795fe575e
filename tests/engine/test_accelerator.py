"""The accelerator by itself: no trainer, no configuration tree, no weights where none are needed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from rela_zoo import Accelerator, RunShape, load_prior
from rela_zoo._io.digest import file_sha256
from rela_zoo.engine import plan_rela
from rela_zoo.errors import ConfigError, RelaZooError, WeightsError

N, WIDTH, BATCH = 40, 12, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(N, WIDTH)).astype(np.float32))


def accelerator(epochs=4, seed=3, **rela):
    rela = {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": 0.5, **rela}
    run = RunShape(batch_size=BATCH, epochs=epochs, seed=seed)
    return Accelerator(IMAGES, features_dim=WIDTH, run=run, rela=rela)


def loader(of):
    """What a DataLoader over the accelerator's sampler would give: indices, without views."""
    every = torch.tensor(list(of.sampler)) % N
    return list(every.split(BATCH))


def run(of, epochs, start=0):
    """Train nothing but the head for some epochs; returns (epoch, stage, loss) of each batch."""
    optimizer = torch.optim.SGD(of.parameters(), lr=0.5) if of.parameters() else None
    seen = []
    for epoch in range(start, epochs):
        of.start_epoch(epoch)
        for accelerated, indices in of.batches(loader(of), epoch):
            loss = of.loss([FEATURES[indices]], indices) if accelerated else torch.zeros(())
            if accelerated and optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            seen.append((epoch, accelerated, float(loss)))
    return seen


def test_it_imports_no_host_and_no_trainer():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['lightning', 'hydra', 'omegaconf', 'lightly']))\n"
        "import rela_zoo.engine\n"
        "assert not [name for name in sys.modules if name.startswith('rela_zoo.hosts')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_both_stages_in_a_plain_loop():
    of = accelerator()
    seen = run(of, 4)
    assert [stage for _, stage, _ in seen] == [True] * 8 + [False] * 8
    assert of.handover_step == 8
    assert of.epoch == 4
    assert [of.own_epoch(epoch) for epoch in range(5)] == [0, 0, 0, 1, 2]


def test_the_loss_is_one_minus_the_cosine_to_the_transported_row():
    of = accelerator(data_ratio=1.0)
    indices = torch.tensor([7, 3, 0])
    of.start_epoch(0)
    with torch.no_grad():
        found = float(of.loss([FEATURES[indices], 2 * FEATURES[indices]], indices))
    table, transport, total = of.targets[0].table, of.targets[0].transport, 0.0
    for index in indices.tolist():
        row = table.rows([list(table.ids).index(table.ids[index])])[0].double()
        k = of.dims[0]
        target = ((row - transport.mean) @ transport.components[:, :k].double()) / transport.scale[:k].sqrt()
        for times in (1, 2):
            with torch.no_grad():
                guess = of.head(times * FEATURES[index]).double()
            total += 1 - float(guess @ target) / (float(guess.norm()) * float(target.norm()))
    assert found == pytest.approx(total / 6, abs=1e-5)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("selection", ["uniform", "loss"])
def test_stopped_and_resumed_it_goes_on_as_if_nothing_had_happened(stop, selection):
    options = {"head": "trained", "selection": selection}
    whole = accelerator(**options)
    expected = run(whole, 4)
    first = accelerator(**options)
    run(first, stop)
    state = first.state_dict()
    second = accelerator(**options)
    second.load_state_dict(state)
    assert second.epoch == stop
    assert run(second, 4, start=second.epoch) == [row for row in expected if row[0] >= stop]
    assert torch.equal(second.head.weight, whole.head.weight)


def test_a_state_over_other_data_or_subsets_is_refused():
    state = accelerator().state_dict()
    with pytest.raises(RelaZooError, match="other subsets"):
        accelerator(data_ratio=0.25).load_state_dict(state)
    with pytest.raises(RelaZooError, match="other embeddings"):
        accelerator(prior="cifar10-resnet20").load_state_dict(state)


def test_a_trained_head_is_for_the_optimiser_and_a_frozen_one_is_not():
    assert accelerator(head="frozen").parameters() == []
    trained = accelerator(head="trained")
    assert {id(one) for one in trained.parameters()} == {id(one) for one in trained.head.parameters()}
    assert accelerator(prior=None).parameters() == []


@pytest.mark.parametrize(
    ("head", "forgotten"), [("trained", True), ("trained", False), ("mlp", True), ("frozen", True)]
)
def test_a_head_that_no_optimiser_has_is_said_once(head, forgotten, said):
    of = accelerator(head=head)
    if forgotten:
        for epoch in range(3):
            for accelerated, indices in of.batches(loader(of), epoch):
                if accelerated:
                    of.loss([FEATURES[indices]], indices)
    else:
        run(of, 3)
    assert str(said).count("the head has not moved") == (forgotten and head != "frozen")


def test_without_a_prior_there_are_subsets_and_nothing_else():
    of = accelerator(prior=None, handover="adaptive")
    assert [stage for _, stage, _ in run(of, 2)] == [False] * 8
    assert not of.targets
    assert of.artefacts == ()
    with pytest.raises(RelaZooError, match="no accelerated stage"):
        of.loss([FEATURES[:3]], torch.arange(3))


def test_accumulated_batches_make_one_step():
    rela = {"prior": "random-test_resnet", "data_ratio": 0.5, "handover": 0.5}
    shape = RunShape(batch_size=BATCH, epochs=4, accumulate=3)
    of = Accelerator(IMAGES, features_dim=WIDTH, run=shape, rela=rela)
    # Four batches an epoch: three make a step, and the last one another.
    assert of.optimiser_steps(4) == 8
    run(of, 4)
    assert of.handover_step == 4


def test_a_plan_is_used_as_it_is(monkeypatch):
    plan = plan_rela({"prior": "random-test_resnet", "data_ratio": 0.5})

    def never(name):
        raise AssertionError("looked up again")

    monkeypatch.setattr("rela_zoo.registry.prior_spec", never)
    of = Accelerator(IMAGES, features_dim=WIDTH, run=RunShape(BATCH, 2), rela=plan)
    assert of.config is plan.config


def test_mistakes_are_listed_together():
    with pytest.raises(ConfigError) as caught:
        accelerator(data_ratio=7, head="thawed")
    assert [problem.key for problem in caught.value.problems] == ["rela.data_ratio", "rela.head"]
    with pytest.raises(ConfigError, match=r"less than one batch of 5"):
        accelerator(data_ratio=0.1)


def _entry(home, sha256):
    spec = load_prior("cifar10-resnet20").spec
    kept = ("family", "architecture", "dim", "licence", "training_data")
    fields = {key: getattr(spec, key) for key in kept}
    shape = spec.preprocessing.model_dump()
    entry = {**fields, "id": "mine", "title": "A prior of mine", "source": "local", "file": "model.safetensors"}
    entry |= {"preprocessing": {k: list(v) if isinstance(v, tuple) else v for k, v in shape.items()}}
    entry |= {"sha256": sha256, "pin": "confirmed"}
    (home / "registry").mkdir(parents=True)
    (home / "registry" / "mine.yaml").write_text(yaml.safe_dump(entry))


def test_rows_in_the_cache_need_no_weights(tmp_path, monkeypatch):
    """Nothing is missing where the rows are: the entry says which prior made them."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path))
    weights = tmp_path / "weights" / "mine" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    network: nn.Module = load_prior("cifar10-resnet20").network
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    _entry(tmp_path, file_sha256(weights))
    first = accelerator(prior="mine")
    weights.unlink()
    with pytest.warns(UserWarning, match=r"rela\.verify is skipped"):
        again = accelerator(prior="mine")
    assert again.targets[0].table.path == first.targets[0].table.path
    assert [one.sha256 for one in again.artefacts] == [one.sha256 for one in first.artefacts]
    with pytest.raises(WeightsError, match="not on this machine"):
        accelerator(prior="mine", preprocessing="rela-reference")
