"""The wrapper on the smallest host that has the contract."""

import json

import pytest
import tiny_host as host
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader

from rela_zoo import AdaptiveHandover, with_rela
from rela_zoo.data import image_source
from rela_zoo.embeddings import embed, open_embeddings
from rela_zoo.errors import ConfigError, EmbeddingsError, RelaZooError

Wrapped = with_rela(host.Method)


def _fit(rela=None, *, loader=None, trainer=None, cls=Wrapped, ckpt=None, **cfg):
    torch.manual_seed(0)
    module = cls(host.config(rela, **cfg))
    run = host.trainer(**(trainer or {}))
    run.fit(module, loader or host.loader(), ckpt_path=ckpt, weights_only=True if ckpt else None)
    return module, run


def test_wrapping_twice_is_wrapping_once():
    assert with_rela(Wrapped) is Wrapped
    assert Wrapped.__name__ == "Method"
    with pytest.raises(TypeError, match="base_training_step"):
        with_rela(nn.Linear)


def test_without_a_section_nothing_changes():
    plain, _ = _fit(cls=host.Method)
    wrapped, _ = _fit()
    assert list(plain.state_dict()) == list(wrapped.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), wrapped.state_dict().values(), strict=True)
    )


def test_both_stages_and_the_handover_between_them():
    module, run = _fit({"data_ratio": 0.5, "handover": 0.5})
    # 24 of 48 samples in batches of 4: six steps an epoch, handed over after two of four epochs.
    assert run.global_step == 24
    assert module.rela.handover_step == 12
    assert module.stages == [("own", i) for _ in range(2) for i in range(6)]


def test_the_accelerated_stage_leaves_the_projector_alone():
    torch.manual_seed(0)
    start = Wrapped(host.config({"handover": 1.0})).state_dict()
    module, _ = _fit({"handover": 1.0, "data_ratio": 1.0})
    after = module.state_dict()
    assert module.stages == []
    # Weight decay is on: only parameters without gradient are left alone by the optimiser.
    assert all(torch.equal(start[key], after[key]) for key in start if key.startswith("projector"))
    for part in ("backbone", "classifier", "momentum_backbone"):
        assert any(not torch.equal(start[key], after[key]) for key in start if key.startswith(f"{part}."))


@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_the_head(head):
    module, _ = _fit({"handover": 1.0, "head": head, "data_ratio": 1.0})
    with torch.random.fork_rng():
        torch.manual_seed(3)  # the run's seed
        fresh = nn.Linear(8, 8)
    assert torch.equal(module.rela_head.weight, fresh.weight) == (head == "frozen")
    assert module.rela_head.weight.requires_grad == (head == "trained")
    assert [key for key in module.state_dict() if "rela" in key] == ["rela_head.weight", "rela_head.bias"]
    assert not any(word in key for key in module.state_dict() if "rela" in key for word in ("backbone", "encoder"))


def test_the_loss_is_the_mean_over_views_and_samples_of_one_minus_cosine():
    module, run = _fit({"handover": 1.0, "data_ratio": 1.0}, trainer={"max_epochs": 1})
    targets = module.rela.targets[0]
    source = image_source(host.Images())
    table = open_embeddings(targets.table.path)
    batch = next(iter(run.train_dataloader))
    indices, views, _ = batch
    # By hand: row by sample id, then the transport's formula, then the cosine.
    ids = list(table.ids)
    t = targets.transport
    total = 0.0
    with torch.no_grad():
        for v in views:
            predictions = module.rela_head(module.backbone(v))
            for p, index in zip(predictions, indices.tolist(), strict=True):
                row = table.rows([ids.index(source.ids[index])])[0].float()
                target = ((row - t.mean) @ t.components[:, :8]) / t.scale[:8].sqrt()
                total += 1 - float(p @ target) / (float(p.norm()) * float(target.norm()))
    with torch.no_grad():
        features = [module.backbone(v) for v in views]
        assert float(module.rela.loss(features, indices)) == pytest.approx(total / (2 * len(indices)), abs=1e-5)


def test_each_epoch_sees_its_own_subset_and_no_other():
    class Spy(host.Method):
        def training_step(self, batch, batch_idx):
            self.seen.append((self.current_epoch, batch[0].tolist()))
            return super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    module = with_rela(Spy)(host.config({"prior": None, "data_ratio": 0.25}))
    module.seen = []
    host.trainer().fit(module, host.loader())
    by_epoch = {e: [i for epoch, ids in module.seen if epoch == e for i in ids] for e in range(4)}
    assert all(len(set(ids)) == len(ids) == 12 for ids in by_epoch.values())
    assert len({tuple(sorted(ids)) for ids in by_epoch.values()}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_views_change_with_the_stage_in_live_workers_too(workers):
    class Spy(host.Method):
        def base_training_step(self, X, targets):
            self.spread.append((self._accelerating, float(X.std())))
            return super().base_training_step(X, targets)

    grey = {"crop_size": host.SIDE, "grayscale": {"prob": 1.0}, "num_crops": 2}
    torch.manual_seed(0)
    spy = with_rela(Spy)(host.config({"handover": 0.5, "data_ratio": 0.5, "augmentations": [grey]}))
    spy.spread = []
    channels = []
    spy.register_buffer("unused", torch.zeros(1))
    original = spy.backbone.forward
    spy.backbone.forward = lambda x: (
        channels.append((spy._accelerating, torch.equal(x[:, 0], x[:, 1]))),
        original(x),
    )[1]
    host.trainer().fit(spy, host.loader(workers))
    assert len(channels) == 4 * 6 * 2
    assert all(accelerating == grey_image for accelerating, grey_image in channels)


@pytest.mark.parametrize("workers", [0, 1])
def test_handover_at_a_step_inside_an_epoch(workers):
    module, run = _fit({"handover": 0.3, "handover_at": "step", "data_ratio": 1.0}, loader=host.loader(workers))
    # 12 steps an epoch, 48 in all: decided after step 14, the second of its epoch; batches on their way are finished.
    in_flight = (2 if workers else 0) + 2
    assert module.rela.handover_step == 14 + in_flight
    assert len(module.stages) == run.global_step - module.rela.handover_step
    assert module.stages[0] == ("own", 14 + in_flight - 12)


def test_accumulated_batches_count_as_one_step():
    module, run = _fit({"handover": "adaptive", "data_ratio": 1.0}, trainer={"accumulate_grad_batches": 4})
    assert run.global_step == 12
    averages = module.rela.averages
    # After n steps, slow − fast has shrunk by 0.99 each, give or take what fast moved.
    assert 2 * 0.985**12 < float(averages["slow"]) + 1 - float(averages["fast"]) < 2.2
    fresh = AdaptiveHandover()
    for _ in range(12):
        fresh.update(1.0)
    assert float(averages["slow"]) == pytest.approx(float(fresh.slow), abs=0.01)


class _StopAfter(Callback):
    """Ends a run in an orderly way, as a time limit does: the training was meant to be longer."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.steps


@pytest.mark.parametrize("rela", [{"handover": 0.5}, {"handover": "adaptive", "head": "trained"}])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(tmp_path, rela, stop):
    rela = {"data_ratio": 0.5, **rela}
    whole, whole_run = _fit(rela)
    _, first_run = _fit(rela, trainer={"callbacks": [_StopAfter(6 * stop)]})
    path = tmp_path / "stopped.ckpt"
    first_run.save_checkpoint(path)
    second, second_run = _fit(rela, ckpt=str(path))
    assert second_run.global_step == whole_run.global_step == 24
    assert second.rela.handover_step == whole.rela.handover_step
    for (key, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    a, b = (m.rela.state_dict()["handover"] for m in (whole, second))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_checkpoint_holds_the_head_and_not_the_table(tmp_path):
    module, run = _fit({"data_ratio": 0.5})
    path = tmp_path / "run.ckpt"
    run.save_checkpoint(path)
    kept = torch.load(path, weights_only=True)
    assert "rela_head.weight" in kept["state_dict"]
    assert kept["rela"]["embeddings"] == module.rela.targets[0].table.digest
    assert not any("transport" in key or "table" in key for key in kept["state_dict"])


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    _, plain = _fit()
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(RelaZooError, match="without rela"):
        _fit({"data_ratio": 0.5}, ckpt=str(tmp_path / "plain.ckpt"))
    _, other = _fit({"data_ratio": 0.5})
    other.save_checkpoint(tmp_path / "half.ckpt")
    with pytest.raises(RelaZooError, match="other subsets"):
        _fit({"data_ratio": 0.25}, ckpt=str(tmp_path / "half.ckpt"))


def test_small_crops_play_no_part_in_the_accelerated_stage():
    module, _ = _fit({"handover": 0.5, "data_ratio": 0.5}, loader=host.loader(views=4), num_crops=4)
    assert module.num_crops == 4
    assert module.multicrop
    assert len(module.stages) == 12


def test_the_momentum_classifier_goes_on_learning():
    torch.manual_seed(0)
    start = Wrapped(host.config({"handover": 1.0}, momentum_classifier=True)).state_dict()
    module, _ = _fit({"handover": 1.0, "data_ratio": 1.0}, momentum_classifier=True)
    assert not torch.equal(start["momentum_classifier.weight"], module.state_dict()["momentum_classifier.weight"])


def test_mistakes_are_found_before_the_network_is_built():
    with pytest.raises(ConfigError) as caught:
        Wrapped(host.config({"prior": "cifar10-resnet2O", "data_ratio": 2, "embeddings": "/nowhere"}))
    assert [p.key for p in caught.value.problems] == ["rela.data_ratio"]
    with pytest.raises(ConfigError) as caught:
        Wrapped(host.config({"prior": "cifar10-resnet2O", "embeddings": "/nowhere", "transport": "/no.safetensors"}))
    assert [p.key for p in caught.value.problems] == ["rela.prior", "rela.embeddings", "rela.transport"]
    assert "cifar10-resnet20" in str(caught.value)


def test_a_subset_smaller_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match="less than one batch of 4") as caught:
        _fit({"data_ratio": 0.05})
    assert caught.value.problems[0].key == "rela.data_ratio"


def test_a_student_without_features_is_refused():
    class Empty(host.Method):
        def __init__(self, cfg):
            super().__init__(cfg)
            self.features_dim = None

    with pytest.raises(ConfigError, match=r"backbone\.name"):
        _fit({"data_ratio": 0.5}, cls=with_rela(Empty))


def test_a_data_set_without_transform_is_refused():
    class Bare(torch.utils.data.Dataset):
        data, targets = host.Images().data, [0] * host.N

        def __len__(self):
            return host.N

        def __getitem__(self, index):
            return index, [torch.zeros(3, 8, 8)] * 2, 0

    with pytest.raises(ConfigError, match=r"data\.dataset"):
        _fit({"data_ratio": 0.5, "augmentations": "method"}, loader=DataLoader(Bare(), batch_size=4))


def test_embeddings_of_another_data_set_are_refused(tmp_path):
    other = host.Images(seed=1).data
    embed("random-test_resnet", other, tmp_path / "other", progress=False)
    with pytest.raises(EmbeddingsError, match=r"rela\.embeddings do not belong") as caught:
        _fit({"data_ratio": 0.5, "embeddings": str(tmp_path / "other")})
    assert "48" in str(caught.value)
    assert caught.value.fix


def test_rows_that_are_of_other_images_are_found_out(tmp_path):
    """Same sample ids, other pictures: what a folder with re-used file names gives."""

    import numpy as np
    from PIL import Image

    for name, seed in (("a", 0), ("b", 1)):
        folder = tmp_path / name / "class"
        folder.mkdir(parents=True)
        for i, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)):
            Image.fromarray(np.full_like(pixels, pixels[0, 0]) if seed else pixels).save(folder / f"{i:02d}.png")
    embed("random-test_resnet", tmp_path / "a", tmp_path / "rows", progress=False)

    from torchvision.datasets import ImageFolder

    class Folder(ImageFolder):
        def __getitem__(self, index):
            return index, *super().__getitem__(index)

    def run(folder, **rela):
        data = Folder(str(tmp_path / folder), transform=host.Images().transform)
        return _fit(
            {"data_ratio": 0.5, "embeddings": str(tmp_path / "rows"), **rela},
            loader=DataLoader(data, batch_size=4, drop_last=True),
        )

    run("a")
    with pytest.raises(EmbeddingsError, match="are of other pictures with the same names"):
        run("b")
    index = tmp_path / "rows" / "index.json"
    index.write_text(json.dumps({key: one for key, one in json.loads(index.read_text()).items() if key != "samples"}))
    with pytest.raises(EmbeddingsError, match="is not what random-test_resnet gives"):
        run("b")
    run("b", verify=0)


def test_the_banner_names_everything(said):
    _fit({"data_ratio": 0.5, "handover": 0.5})
    out = str(said)
    for part in (
        "rela_zoo is active",
        "random-test_resnet",
        "24 in each epoch",
        "deviation^0.5; head trained",
        "handover 0.5",
    ):
        assert part in out
    assert "handover to tiny at step 12" in out
