"""Selection in training: weights in both stages, state in checkpoints, epochs of different lengths."""

import numpy as np
import pytest
import tiny_host as host
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from rela_zoo import with_rela
from rela_zoo.engine import Accelerator, scale_gradients
from rela_zoo.errors import ConfigError, RelaZooError
from rela_zoo.selection.record import read_epoch, read_info

Wrapped = with_rela(host.Method)
CURRICULUM = {
    "name": "curriculum",
    "phases": [{"name": "hard", "until": 0.5}, {"name": "loss"}],
    "growth": 3.0,
}


def _fit(rela=None, *, loader=None, trainer=None, cls=Wrapped, ckpt=None, **cfg):
    torch.manual_seed(0)
    module = cls(host.config(rela, **cfg))
    run = host.trainer(**(trainer or {}))
    run.fit(module, loader or host.loader(), ckpt_path=ckpt, weights_only=False if ckpt else None)
    return module, run


class Additive(host.Momentum):
    """A loss that is a mean of one term a sample, and no batch norm: only then is there a gradient of all data."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.projector = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    @property
    def learnable_params(self):
        return [*super().learnable_params, {"name": "projector", "params": self.projector.parameters()}]

    def forward(self, X):
        out = super().forward(X)
        return {**out, "z": self.projector(out["feats"])}

    def training_step(self, batch, batch_idx):
        out = super().training_step(batch, batch_idx)
        a, b = out["z"]
        return out["loss"] + ((a - 1.0) ** 2).mean() + (a.abs() * b.detach()).sum(dim=1).mean()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["accelerated", "own", "mixed"])
def test_the_expected_gradient_is_that_of_all_data(stage):
    rela = {
        "selection": {"name": "loss", "uniform_share": 0.1},
        "data_ratio": 0.25,
        "head": "trained",
        "handover": 1.0 if stage == "accelerated" else 0.5,
        "mix": 0.5 if stage == "mixed" else 0.0,
    }
    module, _ = _fit(rela, cls=with_rela(Additive), trainer={"max_epochs": 2})
    sampler = module.rela.sampler
    assert sampler.in_own_stage(0) == (stage != "accelerated")
    running = sampler.subset.losses
    # Losses that differ a lot, and go with the content, so that a draw without weights is badly biased.
    data = host.Images()
    brightness = torch.tensor(data.data.astype(np.float32).mean(axis=(1, 2, 3)))
    running._values = (brightness - brightness.min() + 1e-3) ** 2
    convert = host.transforms.Compose([host.transforms.ToTensor(), host.NORMALISE])
    images = torch.stack([convert(Image.fromarray(one)) for one in data.data])
    module.log = module.log_dict = lambda *args, **kwargs: None

    def gradient(indices, weighted):
        module.zero_grad()
        views = [images[indices], images[indices].flip(3)]
        if not weighted:
            module.rela.weights = lambda indices: None
        module.training_step([indices, views, torch.tensor(data.targets)[indices]], 0).backward()
        vars(module.rela).pop("weights", None)
        grads = [p.grad for p in module.parameters() if p.requires_grad and p.grad is not None]
        return torch.cat([g.flatten() for g in grads]).double()

    everything = gradient(torch.arange(host.N), weighted=False)
    weighted, plain = [], []
    for epoch in range(1500):
        sampler.set_epoch(epoch)
        indices = torch.tensor(list(sampler)) % host.N
        weighted.append(gradient(indices, weighted=True))
        if epoch < 300:
            plain.append(gradient(indices, weighted=False))
    weighted, plain = torch.stack(weighted), torch.stack(plain)

    def score(draws):
        """How many standard errors the mean is off, root mean square over parameters; 1 where it is unbiased."""
        spread = draws.std(dim=0)
        live = spread > 1e-3 * spread.max()
        off = (draws.mean(dim=0) - everything)[live] / (spread[live] / len(draws) ** 0.5)
        return float(off.square().mean().sqrt())

    assert score(weighted) < 2.0
    assert score(plain) > 4.0


def test_a_mixture_weighs_each_sample_once(monkeypatch):
    """With a share of one, its gradient is that of the accelerated stage."""
    selection = {"name": "loss", "uniform_share": 0.1}
    rela = {"selection": selection, "data_ratio": 0.25, "head": "trained", "handover": 0.5, "mix": 0.5}
    module, _ = _fit(rela, cls=with_rela(Additive), trainer={"max_epochs": 2})
    module.log = module.log_dict = lambda *args, **kwargs: None
    indices = torch.tensor(list(module.rela.sampler))[:8] % host.N
    module.rela.sampler.subset.losses._values = torch.arange(host.N, dtype=torch.float32)
    module.rela.sampler.set_epoch(5)
    views = [torch.randn(8, 3, host.SIDE, host.SIDE) for _ in range(2)]
    batch = [indices, views, torch.arange(8) % 4]
    assert len(module.rela.weights(indices).unique()) > 2
    monkeypatch.setattr(Accelerator, "share", property(lambda self: 1.0))

    def gradients(accelerated):
        module.zero_grad()
        monkeypatch.setattr(module, "_begin_batch", lambda batch_idx: accelerated)
        module.training_step(batch, 0).backward()
        parts = (module.backbone, module.rela_head, module.classifier)
        return torch.cat([p.grad.flatten() for part in parts for p in part.parameters()])

    assert torch.allclose(gradients(False), gradients(True), atol=1e-6)


def test_scaled_gradients_are_those_of_the_weighted_sum():
    torch.manual_seed(0)
    network, weights = nn.Linear(3, 4), torch.rand(5)
    x, y = torch.randn(5, 3), torch.randint(0, 4, (5,))
    (F.cross_entropy(network(x), y, reduction="none") * weights).mean().backward()
    wanted = network.weight.grad.clone()
    network.zero_grad()
    out = scale_gradients({"logits": network(x), "other": torch.zeros(5), "shape": network(x)[:2], "n": 3}, weights)
    assert out["n"] == 3
    F.cross_entropy(out["logits"], y).backward()
    assert torch.allclose(network.weight.grad, wanted)
    untouched = {"logits": network(x)}
    assert scale_gradients(untouched, None) is untouched
    assert scale_gradients(untouched, weights, only=("feats",))["logits"] is untouched["logits"]


def test_weights_go_to_the_samples_they_belong_to():
    seen = []

    class Spy(host.Method):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            self.now = batch[0].clone()
            return batch

        def base_training_step(self, X, targets):
            seen.append((self.now, self._sample_weights))
            return super().base_training_step(X, targets)

    module, _ = _fit({"selection": "loss", "data_ratio": 0.5, "handover": 0.75}, cls=with_rela(Spy))
    subset = module.rela.sampler.subset
    weights = torch.ones(host.N)
    for number, (indices, given) in enumerate(seen):
        if number % 12 == 0:  # two views of six batches an epoch
            assert given is not None
        assert given.shape == indices.shape
        weights[indices] = given
    assert float(weights.max()) <= 4.0
    assert len(weights.unique()) > 10
    assert not subset.losses.values.isnan().all()
    assert module._sample_weights is None


def test_the_losses_noted_are_those_of_the_samples():
    module, run = _fit({"selection": {"name": "loss", "momentum": 0.0}, "data_ratio": 1.0, "handover": 1.0})
    running = module.rela.sampler.subset.losses
    assert not running.values.isnan().any()
    assert float(running.values.mean()) == pytest.approx(float(run.callback_metrics["train_rela_loss_epoch"]), abs=1e-4)


@pytest.mark.parametrize(
    "selection",
    [
        "balanced",
        "coverage",
        "dedup",
        "prototypical",
        "hard",
        "loss",
        CURRICULUM,
        {"name": "balanced", "weighted": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("handover", [0.5, 0.0])
def test_every_policy_trains_in_both_stages(selection, handover, said):
    name = selection if isinstance(selection, str) else selection["name"]
    if handover == 0.0 and name in ("loss", "curriculum"):
        with pytest.raises(ConfigError, match=r"rela\.selection"):
            _fit({"selection": selection, "handover": handover, "data_ratio": 0.5})
        return
    module, run = _fit({"selection": selection, "handover": handover, "data_ratio": 0.5})
    assert run.global_step == 24
    assert module.stages
    assert f"selection {name}" in str(said)


def test_the_geometry_is_computed_once_and_kept(said):
    rela = {"selection": {"name": "balanced", "clusters": 5}, "data_ratio": 0.5}
    _fit(rela)
    assert "clustering 48 samples" in str(said)
    said.clear()
    _fit(rela)
    assert "clustering" not in str(said)


@pytest.mark.parametrize("selection", ["loss", "balanced", CURRICULUM], ids=str)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(tmp_path, selection, stop):
    rela = {"data_ratio": 0.5, "selection": selection, "handover": 0.5}

    class Stop(host.pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch + 1 == stop:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    whole, whole_run = _fit(rela, trainer={"callbacks": [Stop()]})
    second, second_run = _fit(rela, ckpt=str(tmp_path / "stopped.ckpt"))
    assert second_run.global_step == whole_run.global_step == 24
    for (key, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    a, b = (m.rela.sampler.subset.losses for m in (whole, second))
    assert (a is None) == (b is None)
    assert a is None or torch.equal(a.values.nan_to_num(-1), b.values.nan_to_num(-1))


def test_a_checkpoint_of_another_selection_is_refused(tmp_path):
    _, run = _fit({"data_ratio": 0.5})
    run.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(RelaZooError, match="other subsets"):
        _fit({"data_ratio": 0.5, "selection": "balanced"}, ckpt=str(tmp_path / "run.ckpt"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_epochs_of_different_lengths(workers, accumulate):
    sizes, estimated = [], []

    class Spy(host.Method):
        def on_train_epoch_start(self):
            super().on_train_epoch_start()
            sizes.append([self.trainer.num_training_batches, 0])
            estimated.append(self.trainer.estimated_stepping_batches)

        def on_train_batch_start(self, batch, batch_idx):
            sizes[-1][1] += 1

        def configure_optimizers(self):
            estimated.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    selection = {"name": "curriculum", "phases": ["uniform"], "growth": 3.0}
    module, run = _fit(
        {"selection": selection, "data_ratio": 0.5, "handover": 0.5},
        cls=with_rela(Spy),
        loader=host.loader(workers),
        trainer={"accumulate_grad_batches": accumulate},
    )
    # 24 samples an epoch on average, 12 in the first and 36 in the last, in batches of four.
    assert sizes == [[3, 3], [5, 5], [7, 7], [9, 9]]
    steps = [-(-batches // accumulate) for batches, _ in sizes]
    assert run.global_step == sum(steps)
    assert set(estimated) == {sum(steps)}
    assert module.rela.handover_step == sum(steps[:2])
    assert type(run).__name__ == "Trainer"


def test_growth_needs_a_number_of_epochs():
    with pytest.raises(ConfigError, match="max_epochs"):
        _fit({"selection": CURRICULUM, "handover": "adaptive"}, trainer={"max_epochs": -1, "max_steps": 5})


def test_a_smallest_epoch_of_less_than_a_batch_is_refused():
    selection = {"name": "curriculum", "phases": ["uniform"], "growth": 9.0}
    with pytest.raises(ConfigError, match="less than one batch of 4"):
        _fit({"selection": selection, "data_ratio": 0.3})


def test_a_recorded_run_can_be_replayed(tmp_path):
    recorded, _ = _fit({"selection": {"name": "loss", "record": str(tmp_path / "subsets")}, "data_ratio": 0.5})
    info = read_info(tmp_path / "subsets")
    assert info["epochs"] == 4
    assert info["selection"]["name"] == "loss"
    ids, weights = read_epoch(tmp_path / "subsets", 3)
    assert len(set(ids)) == 24
    assert len(np.unique(weights)) > 5
    again, _ = _fit({"selection": {"name": "replay", "path": str(tmp_path / "subsets")}, "data_ratio": 0.5})
    for (key, a), b in zip(recorded.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_recording_and_replaying_need_no_prior(tmp_path):
    selection = {"name": "uniform", "record": str(tmp_path / "subsets")}
    _fit({"prior": None, "selection": selection, "data_ratio": 0.5})
    module, _ = _fit(
        {"prior": None, "selection": {"name": "replay", "path": str(tmp_path / "subsets")}, "data_ratio": 0.5}
    )
    assert module.rela.sampler.subset.described["of"] == {"name": "uniform"}


def test_a_replay_that_does_not_fit_is_refused_before_training(tmp_path):
    _fit({"prior": None, "selection": {"name": "uniform", "record": str(tmp_path)}, "data_ratio": 0.5})
    replay = {"name": "replay", "path": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"data_ratio=0\.5"):
        _fit({"prior": None, "selection": replay, "data_ratio": 0.25})
    with pytest.raises(ConfigError, match=r"rela\.selection\.path") as caught:
        _fit({"prior": "cifar10-resnet2O", "selection": {"name": "replay", "path": str(tmp_path / "x")}})
    assert [problem.key for problem in caught.value.problems] == ["rela.selection.path", "rela.prior"]
    with pytest.raises(ConfigError, match="too few epochs"):
        _fit({"prior": None, "selection": replay, "data_ratio": 0.5}, trainer={"max_epochs": 5})
