"""The methods: contract, parameter groups, momentum, losses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_builtin import KWARGS

from rela_zoo.hosts.builtin.config import resolve_config
from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.methods.mocov3 import batch_contrast
from rela_zoo.hosts.builtin.momentum import MomentumUpdater, momentum_at
from rela_zoo.hosts.builtin.train import train

GROUPS = {
    "barlow_twins": ["projector"],
    "byol": ["projector", "predictor"],
    "dino": ["head"],
    "mocov2plus": ["projector"],
    "mocov3": ["projector", "predictor"],
    "simclr": ["projector"],
    "simsiam": ["projector", "predictor"],
    "supervised": ["output"],
    "swav": ["projector", "prototypes"],
    "vicreg": ["projector"],
}
MOMENTUM = {"byol": 2, "dino": 2, "mocov2plus": 2, "mocov3": 2}


def build(config: dict[str, Any], name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    whole = resolve_config({**config, "method": name, "method_kwargs": KWARGS[name], **changes}, num_classes=3)
    return METHODS[name](whole)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_trains(config: dict[str, Any], folders: Any, name: str) -> None:
    """Two epochs on a ResNet-18: finite losses, parts move or follow, the state dict keeps its keys."""
    config.update(method=name, method_kwargs=KWARGS[name], backbone={"name": "resnet18"})
    config["checkpoint"]["frequency"] = 2
    config["data"]["val_path"] = str(folders / "val")
    fresh = build(config, name)
    result = train(config)
    assert result.steps == 6
    assert result.samples_seen == 48
    assert len(result.history) == 2
    assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in result.history)
    assert {"val_acc1", "val_loss", "train_acc1"} <= set(result.history[-1])
    state = result.method.state_dict()
    assert list(state) == list(fresh.state_dict())
    assert all(torch.isfinite(value).all() for value in state.values())
    saved = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert list(saved) == list(state)
    assert all(torch.equal(saved[key], state[key]) for key in state)
    for part in ("backbone", "classifier", *GROUPS[name]):
        pairs = zip(getattr(fresh, part).parameters(), getattr(result.method, part).parameters(), strict=True)
        assert any(not torch.equal(before, after) for before, after in pairs), part


@pytest.mark.parametrize("name", sorted(METHODS))
def test_contract(config: dict[str, Any], name: str) -> None:
    """Names and shapes that a wrapper for solo-learn's methods relies on."""
    method = build(config, name)
    assert (method.num_large_crops, method.num_small_crops, method.num_crops, method.multicrop) == (2, 0, 2, False)
    groups = method.learnable_params
    assert [group["name"] for group in groups] == ["backbone", "classifier", *GROUPS[name]]
    trained = {id(p) for group in groups for p in group["params"] if p.requires_grad}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}
    assert [bool(group.get("static_lr")) for group in groups].count(True) == (name == "simsiam")
    assert not any("backbone" in head or "encoder" in head for head in method.heads)

    images, targets = torch.randn(8, 3, 16, 16), torch.tensor([0, 1, 2, -1, 0, 1, 2, 0])
    out = method(images)
    assert out["feats"].shape == (8, method.features_dim) == (8, 24)
    assert out["logits"].shape == (8, 3)
    base = METHODS[name].__mro__[-1 - [c.__name__ for c in METHODS[name].__mro__[::-1]].index("BaseMethod")]
    assert set(base.forward(method, images)) == {"feats", "logits"}
    loss = method.training_step([torch.arange(8), [images, images.flip(3)], targets], 0)
    assert loss.shape == ()
    loss.backward()
    for part in ("backbone", "classifier", *GROUPS[name]):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(method, part).parameters()), part
    outs = base.training_step(method, [torch.arange(8), [images, images], targets], 0)
    assert len(outs["feats"]) == 2
    assert outs["loss"].shape == ()
    if name in MOMENTUM:
        assert len(method.momentum_pairs) == MOMENTUM[name]
        assert set(method.momentum_forward(images)) >= {"feats"}
        for online, momentum in method.momentum_pairs:
            assert all(torch.equal(a, b) for a, b in zip(online.parameters(), momentum.parameters(), strict=True))
            assert not any(p.requires_grad or p.grad is not None for p in momentum.parameters())


def test_classifier_ignores_missing_labels(config: dict[str, Any]) -> None:
    method = build(config, "simclr")
    images = torch.randn(6, 3, 16, 16)
    none = method.base_training_step(images, torch.full((6,), -1))
    assert (none["loss"], none["acc1"]) == (0, 0)
    targets = torch.tensor([0, 1, 2, -1, -1, 1])
    out = method.eval().base_training_step(images, targets)
    known = targets >= 0
    assert torch.allclose(out["loss"], F.cross_entropy(out["logits"][known], targets[known]))
    right = (out["logits"].argmax(1) == targets)[known].float().mean() * 100
    assert torch.allclose(out["acc1"], right)


def test_supervised_learns_what_can_be_told_apart(config: dict[str, Any]) -> None:
    """The classes differ by colour. Its own layer is trained through the backbone, so is not the online classifier."""
    config.update(method="supervised", method_kwargs={}, max_epochs=12, augmentations=[plain_view()])
    config["optimizer"].update(lr=0.3, classifier_lr=0.05)
    history = train(config).history
    assert history[0]["train_supervised_acc1"] < 70
    assert history[-1]["train_supervised_acc1"] > 90
    assert history[-1]["train_supervised_loss"] < history[0]["train_supervised_loss"] / 2


def test_supervised_counts_samples_without_label_for_nothing(config: dict[str, Any]) -> None:
    method = build(config, "supervised").eval()
    images, targets = torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, -1, -1, 1])
    known = targets >= 0
    out = method(images)
    loss = method.training_step([torch.arange(6), [images, images], targets], 0)
    wanted = F.cross_entropy(out["z"][known], targets[known]) + F.cross_entropy(out["logits"][known], targets[known])
    assert torch.allclose(loss, wanted)


def plain_view() -> dict[str, Any]:
    """Views that leave colours as they are."""
    return {"rrc": {"enabled": True, "crop_min_scale": 0.5, "crop_max_scale": 1.0}, "crop_size": 16, "num_crops": 2}


def test_momentum_classifier_is_trained(config: dict[str, Any], folders: Any) -> None:
    config["momentum"] = {"base_tau": 0.9, "final_tau": 1.0, "classifier": True}
    config["data"]["val_path"] = str(folders / "val")
    method = build(config, "byol")
    assert [group["name"] for group in method.learnable_params][2:] == ["projector", "predictor", "momentum_classifier"]
    last = train(config).history[-1]
    assert {"train_momentum_acc1", "momentum_val_acc1"} <= set(last)


def test_knn_evaluation(config: dict[str, Any], folders: Any) -> None:
    """The classes differ by colour, so neighbours tell them apart even without training."""
    config["data"]["val_path"] = str(folders / "val")
    config["knn_eval"] = {"enabled": True, "k": 5, "distance_func": "cosine"}
    history = train(config).history
    assert all(0 <= row["val_knn_acc1"] <= 100 for row in history)


@pytest.mark.parametrize("name", [name for name in sorted(METHODS) if METHODS[name].takes_small_crops])
def test_multicrop(config: dict[str, Any], make_view: Any, name: str) -> None:
    config.update(augmentations=[make_view(16, 2), make_view(8, 3)], backbone={"name": "resnet18"})
    method = build(config, name)
    assert (method.num_large_crops, method.num_small_crops, method.multicrop) == (2, 3, True)
    views = [torch.randn(4, 3, 16, 16) for _ in range(2)] + [torch.randn(4, 3, 8, 8) for _ in range(3)]
    loss = method.training_step([torch.arange(4), views, torch.tensor([0, 1, 2, 0])], 0)
    assert torch.isfinite(loss)


def test_momentum_update_is_an_average_and_its_coefficient_a_cosine() -> None:
    online, momentum = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = copy.deepcopy(momentum)
    updater = MomentumUpdater(0.9, 1.0)
    updater.update_tau(0, 100)
    updater.update(online, momentum)
    assert torch.allclose(momentum.weight, 0.9 * before.weight + 0.1 * online.weight)
    assert [round(momentum_at(step, 4, 0.6, 1.0), 6) for step in (0, 2, 4, 9)] == [0.6, 0.8, 1.0, 1.0]


def test_byol_loss_against_the_formula(config: dict[str, Any]) -> None:
    config["backbone"] = {"name": "resnet18"}
    method = build(config, "byol").eval()
    views, targets = [torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16)], torch.full((4,), -1)
    loss = method.training_step([torch.arange(4), views, targets], 0)
    p = [F.normalize(method.predictor(method.projector(method.backbone(v))), dim=1) for v in views]
    z = [F.normalize(method.momentum_projector(method.momentum_backbone(v)), dim=1) for v in views]
    expected = sum(((p[1 - i] - z[i]) ** 2).sum(dim=1).mean() for i in range(2))
    assert torch.allclose(loss, expected, atol=1e-5)


def test_batch_contrast_against_a_loop() -> None:
    q, k, temperature = torch.randn(5, 7), torch.randn(5, 7), 0.3
    total = 0.0
    for i in range(5):
        logits = [float(F.cosine_similarity(q[i], k[j], dim=0)) / temperature for j in range(5)]
        total -= logits[i] - float(torch.logsumexp(torch.tensor(logits), 0))
    assert float(batch_contrast(q, k, temperature)) == pytest.approx(2 * temperature * total / 5, rel=1e-5)


def test_dino_keeps_prototypes_still_in_the_first_epoch(config: dict[str, Any]) -> None:
    config.update(method="dino", method_kwargs={**KWARGS["dino"], "freeze_last_layer": 5})
    fresh = build(config, "dino")
    trained = train(config).method
    assert torch.equal(fresh.head.last_layer.weight_g, trained.head.last_layer.weight_g)
    assert not torch.equal(fresh.head.layers[0].weight, trained.head.layers[0].weight)


def test_mocov2_queues_are_in_the_checkpoint_and_take_in_keys(config: dict[str, Any]) -> None:
    method = build(config, "mocov2plus")
    assert {"criterion1.memory_bank.bank", "criterion2.memory_bank.bank_ptr"} <= set(method.state_dict())
    before = method.criterion1.memory_bank.bank.clone()
    images = torch.randn(8, 3, 16, 16)
    method.training_step([torch.arange(8), [images, images], torch.zeros(8, dtype=torch.long)], 0)
    keys = F.normalize(method.momentum_forward(images)["z"], dim=1)
    after = method.criterion1.memory_bank.bank
    assert torch.equal(after[8:], before[8:])
    # The twin has random depth too, so its keys differ from pass to pass; only their norm is certain.
    assert torch.allclose(after[:8].norm(dim=1), torch.ones(8), atol=1e-5)
    assert keys.shape == (8, 16)


def test_swav_queue_is_first_in_first_out(config: dict[str, Any]) -> None:
    method = build(config, "swav")
    for value in (1.0, 2.0, 3.0):
        method._enqueue([torch.full((8, 16), value), torch.full((8, 16), -value)])
    assert method.queue[0, :, 0].tolist() == [3.0] * 8 + [2.0] * 8 + [1.0] * 4
    assert method.queue[1, :, 0].tolist() == [-3.0] * 8 + [-2.0] * 8 + [-1.0] * 4


def test_accumulated_batches_count_as_one_step(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The momentum network moves once an optimiser step, and rates are scaled as solo-learn scales them."""
    config.update(accumulate_grad_batches=3, max_epochs=1)
    moves = []
    original = MomentumUpdater.update_tau

    def note(self: MomentumUpdater, step: int, total: int) -> None:
        moves.append((step, total))
        original(self, step, total)

    monkeypatch.setattr(MomentumUpdater, "update_tau", note)
    result = train(config)
    assert moves == [(0, 1)]
    assert result.method.lr == pytest.approx(0.05 * 8 / 256 * 3)
