"""Any LightningModule through both stages: what is computed, what is trained, and what stays as it was."""

import copy

import lightning.pytorch as pl
import pytest
import tiny
import torch

from rela_zoo.engine import Accelerator
from rela_zoo.hosts.lightning import accelerating
from rela_zoo.selection.subset import EpochSubset


def drawn(epoch, seed=0):
    return EpochSubset(tiny.N, 0.5, seed=seed).indices(epoch).tolist()


def test_both_stages_on_the_subset_of_each_epoch():
    module = tiny.SimCLR()
    callback = tiny.rela()
    run = tiny.fit(module, callback, tiny.loader())
    assert module.stages == ["accelerated"] * 6 + ["own"] * 6
    # The milder views are narrower here, so that no batch can have those of the other stage unseen.
    assert [width for *_, width, _ in module.seen] == [tiny.MILD] * 6 + [tiny.OWN] * 6
    for epoch in range(4):
        assert [i for _, at, samples, *_ in module.seen if at == epoch for i in samples] == drawn(epoch)
    assert run.global_step == 12
    assert callback.accelerator.handover_step == 6
    assert all(loss < 2 for loss in module.losses[:6])


def test_each_sample_meets_its_own_target(monkeypatch):
    met = []
    loss = Accelerator.loss
    monkeypatch.setattr(
        Accelerator, "loss", lambda self, x, indices: met.append(indices.tolist()) or loss(self, x, indices)
    )
    module = tiny.SimCLR()
    tiny.fit(module, tiny.rela(handover=1.0), tiny.loader())
    assert met == [samples for _, _, samples, *_ in module.seen]


def test_handover_within_an_epoch():
    module = tiny.SimCLR()
    callback = tiny.rela(handover=0.125, handover_at="step", data_ratio=1.0)
    tiny.fit(module, callback, tiny.loader(), log_every_n_steps=1)
    handover = module.stages.index("own")
    assert handover == callback.accelerator.handover_step
    # Decided after 3 of 24 steps; what the loader had drawn by then is finished with the accelerated loss.
    assert 3 < handover < 6
    assert module.stages == ["accelerated"] * handover + ["own"] * (24 - handover)
    assert [width for *_, width, _ in module.seen] == [tiny.MILD] * handover + [tiny.OWN] * (24 - handover)


ONE = "random-test_resnet"


@pytest.mark.parametrize("takes", ["all", "part"])
@pytest.mark.parametrize(
    ("head", "prior"),
    [("frozen", ONE), ("trained", ONE), ("mlp", ONE), ("trained", [ONE, "random-resnet18"])],
)
def test_a_head_is_trained_if_it_is_to_be(takes, head, prior):
    callback = tiny.rela(head=head, prior=prior)
    before = {}

    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            before.update({key: value.clone() for key, value in callback.accelerator.head.state_dict().items()})
            assert all(
                one is two
                for one, two in zip(
                    pl_module.rela_head.parameters(), callback.accelerator.head.parameters(), strict=True
                )
            )

    module = tiny.SimCLR(takes)
    run = tiny.fit(module, callback, tiny.loader(), callbacks=[Look()])
    moved = [key for key, value in callback.accelerator.head.state_dict().items() if (value != before[key]).any()]
    assert moved == ([] if head == "frozen" else list(before))
    assert len(before) == (2 if (head, prior) in (("frozen", ONE), ("trained", ONE)) else 4)
    assert not [key for key in module.state_dict() if "rela" in key]
    groups = run.optimizers[0].param_groups
    trained = [id(one) for group in groups for one in group["params"]]
    assert len(trained) == len(set(trained))
    assert len(groups) == (2 if takes == "part" and head != "frozen" else 1)


def _one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=12)


def _warm_up(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))


def _chain(optimizer):
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[4])


@pytest.mark.parametrize("schedule", [_one_cycle, _warm_up, _chain])
def test_a_head_that_came_later_has_the_schedule_of_the_others(schedule):
    rates = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    tiny.fit(tiny.SimCLR("part", schedule), tiny.rela(head="trained"), tiny.loader(), callbacks=[Look()])
    assert all(one == two for one, two in rates)
    plain = tiny.SimCLR("part", schedule)
    alone = []

    class Alone(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            alone.append(trainer.optimizers[0].param_groups[0]["lr"])

    tiny.fit(plain, None, tiny.loader(), callbacks=[Alone()], limit_train_batches=3)
    assert [one for one, _ in rates] == alone


def test_workers_change_nothing():
    losses = []
    for workers in (0, 2):
        module = tiny.SimCLR()
        tiny.fit(module, tiny.rela(handover_at="step"), tiny.loader(workers, persistent_workers=workers > 0))
        losses.append((module.stages.count("accelerated"), module.losses[:6]))
    assert losses[0][1] == losses[1][1]
    # More batches are on their way with workers, so the handover comes later.
    assert losses[0][0] <= losses[1][0]


def test_without_the_callback_the_line_does_nothing():
    class Plain(tiny.SimCLR):
        def training_step(self, batch, batch_idx):
            views, _ = batch
            return self.note("own", batch, self.contrast(*[self.projector(self.backbone(view)) for view in views]))

    losses = []
    for kind in (Plain, tiny.SimCLR):
        module = kind()
        torch.manual_seed(1)
        tiny.fit(module, None, tiny.loader())
        losses.append(module.losses)
    assert len(losses[0]) == 24
    assert losses[0] == losses[1]


def test_subsets_alone_without_a_prior():
    module = tiny.SimCLR()
    callback = tiny.rela(prior=None)
    tiny.fit(module, callback, tiny.loader())
    assert module.stages == ["own"] * 12
    assert callback.accelerator.head is None
    assert [i for _, at, samples, *_ in module.seen if at == 3 for i in samples] == drawn(3)


def _state(module, data):
    """What a run must not change, but for Lightning's own cache."""
    names = [name for name, _ in module.named_parameters()]
    attributes = {name for name in vars(module) if not name.startswith("_hparams")}
    return attributes, names, list(module.state_dict()), data.transform


def test_module_and_data_are_as_they_were_afterwards():
    module, data = tiny.SimCLR(), tiny.Images()
    before = _state(module, data)
    tiny.fit(module, tiny.rela(handover=1.0), tiny.loader(data=data))
    assert _state(module, data) == before
    assert accelerating(module) is None


def test_so_they_are_after_a_run_that_broke_off_and_another():
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise OSError("the disk is full")

    module, data, callback = tiny.SimCLR(), tiny.Images(), tiny.rela()
    before = _state(module, data)
    with pytest.raises(OSError, match="full"):
        tiny.fit(module, callback, tiny.loader(data=data), callbacks=[Breaks()])
    tiny.fit(module, callback, tiny.loader(data=data))
    assert module.stages == ["accelerated"] * 7 + ["own"] * 6
    assert _state(module, data) == before


def test_gradients_accumulated_over_batches():
    module, callback = tiny.SimCLR(), tiny.rela()
    run = tiny.fit(module, callback, tiny.loader(), accumulate_grad_batches=2)
    # Three batches in an epoch: a step of two, and one of the last.
    assert run.global_step == 8
    assert callback.accelerator.handover_step == 4
    assert module.stages == ["accelerated"] * 6 + ["own"] * 6


class ByHand(tiny.SimCLR):
    """Two optimisers, stepped by hand every `every` batches."""

    def __init__(self, every):
        super().__init__()
        self.automatic_optimization, self.every = False, every

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.backbone, self.projector)]

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx) / self.every)
        if (batch_idx + 1) % self.every == 0:
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()


@pytest.mark.parametrize(("every", "steps"), [(1, 12), (2, 4)])
def test_steps_of_several_optimisers_are_counted_once(every, steps):
    module = ByHand(every)
    callback = tiny.rela(head="trained", accumulate=every)
    run = tiny.fit(module, callback, tiny.loader())
    assert run.global_step == 2 * steps
    assert callback.accelerator.handover_step == steps // 2
    assert module.stages == ["accelerated"] * 6 + ["own"] * 6


def test_the_head_has_the_precision_of_the_module():
    module, callback = tiny.SimCLR(), tiny.rela(head="trained", handover=1.0)
    tiny.fit(module, callback, tiny.loader(), precision="bf16-true", max_epochs=1)
    assert callback.accelerator.head.weight.dtype == next(module.parameters()).dtype == torch.bfloat16
    assert all(0 < loss < 2 for loss in module.losses)


def test_a_copy_of_the_module_knows_no_run():
    class Copies(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            twin = copy.deepcopy(pl_module)
            assert accelerating(twin) is None
            assert twin.rela_head.weight is not pl_module.rela_head.weight

    tiny.fit(tiny.SimCLR(), tiny.rela(handover=1.0), tiny.loader(), callbacks=[Copies()], max_epochs=1)


@pytest.mark.slow
def test_a_compiled_module_trains_the_same():
    losses = []
    for wrap in (lambda one: one, lambda one: torch.compile(one, backend="eager")):
        module = tiny.SimCLR()
        tiny.fit(wrap(module), tiny.rela(), tiny.loader())
        losses.append((module.stages, module.losses))
    assert losses[0] == losses[1]


def test_a_second_fit_goes_on_with_the_stages():
    """As Lightning goes on with the epochs; another trainer begins anew."""
    module, callback = tiny.SimCLR(), tiny.rela(head="trained")
    trainer = tiny.fit(module, callback, tiny.loader(), max_epochs=2)
    assert module.stages == ["accelerated"] * 3 + ["own"] * 3
    head = {name: value.clone() for name, value in callback.accelerator.head.state_dict().items()}
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, tiny.loader())
    assert module.stages[6:] == ["own"] * 6
    assert [one[1] for one in module.seen] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert all(torch.equal(value, head[name]) for name, value in callback.accelerator.head.state_dict().items())
    assert callback.accelerator.state_dict()["handover_step"] == 3
    again = tiny.SimCLR()
    tiny.fit(again, callback, tiny.loader(), max_epochs=2)
    assert again.stages == ["accelerated"] * 3 + ["own"] * 3
