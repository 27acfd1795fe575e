"""Learning-rate schedules begin anew at the handover, whichever they are; and the accelerated loss in a mixture."""

import math

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.optim import lr_scheduler

from rela_zoo.errors import ConfigError
from rela_zoo.hosts.lightning import mixing
from rela_zoo.hosts.lightning._rewarm import replayed

STEPS, HANDOVER = 24, 12  # 8 epochs of 3 batches, half of them accelerated


def closed(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda step: math.cos(step / STEPS * math.pi / 2))


def chained(optimizer):
    """Each step changes the rate of the one before."""
    return lr_scheduler.ExponentialLR(optimizer, 0.9)


def warm(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=STEPS + 1)


def sequential(optimizer):
    first = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=6)
    return lr_scheduler.SequentialLR(optimizer, [first, lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 6)], [6])


def chain(optimizer):
    """Has no count of its own steps."""
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=6), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    )


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def alone(schedule):
    """The rate of each step of a schedule by itself."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    scheduler, rates = schedule(optimizer), []
    for _ in range(STEPS + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) <= STEPS:
            scheduler.step()
    return rates


def trained(schedule, callback, **settings):
    rates, module = Rates(), tiny.SimCLR("part", schedule)
    tiny.fit(
        module, callback, tiny.loader(), callbacks=[rates, *settings.pop("callbacks", [])], max_epochs=8, **settings
    )
    return module, rates.seen


@pytest.mark.parametrize("schedule", [closed, chained, warm, sequential, chain])
def test_the_whole_schedule_is_run_again_in_what_remains(schedule):
    whole = alone(schedule)
    _, rates = trained(schedule, tiny.rela(rewarm=True))
    assert rates[:HANDOVER] == pytest.approx(whole[:HANDOVER])
    assert rates[HANDOVER:] == pytest.approx([whole[2 * step] for step in range(STEPS - HANDOVER)])
    _, rates = trained(schedule, tiny.rela())
    assert rates == pytest.approx(whole[:STEPS])


@pytest.mark.parametrize("epoch", [1, 3, 4, 6])
def test_resumed_before_at_and_after_the_handover(tmp_path, epoch):
    every = ModelCheckpoint(str(tmp_path / "whole"), filename="{epoch}", save_top_k=-1)
    whole, rates = trained(warm, tiny.rela(rewarm=True), enable_checkpointing=True, callbacks=[every])
    ckpt = tmp_path / "whole" / f"epoch={epoch}.ckpt"
    again, its = trained(warm, tiny.rela(rewarm=True), ckpt=ckpt)
    assert its == rates[3 * (epoch + 1) :]
    assert again.seen == whole.seen[3 * (epoch + 1) :]


class Settings(tiny.SimCLR):
    """Its schedule as a trainer is told about it."""

    def __init__(self, schedule, **settings):
        super().__init__("part", schedule)
        self.settings = settings

    def configure_optimizers(self):
        made = super().configure_optimizers()
        made["lr_scheduler"].update(self.settings)
        return made


class ByHand(tiny.SimCLR):
    """Steps optimiser and schedule itself."""

    def __init__(self, schedule):
        super().__init__("part", schedule)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.optimizers().zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        self.optimizers().step()
        self.lr_schedulers().step()


def fitted(module, **settings):
    rates = Rates()
    run = tiny.fit(module, tiny.rela(rewarm=True), tiny.loader(), callbacks=[rates], **{"max_epochs": 8, **settings})
    return rates.seen, run


def halving(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)


def test_a_schedule_that_is_stepped_after_each_epoch():
    rates, _ = fitted(Settings(halving, interval="epoch"))
    exponents = [*(0, 1, 2, 3), *(0, 2, 4, 6)]
    assert rates == pytest.approx([1e-2 * 0.5**one for one in exponents for _ in range(3)])


def test_one_that_is_stepped_after_each_third_batch():
    rates, _ = fitted(Settings(halving, interval="step", frequency=3))
    exponents = [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [one * 8 // 12 for one in range(12)]
    assert rates == pytest.approx([1e-2 * 0.5**one for one in exponents])


def test_one_that_a_module_steps_itself():
    rates, _ = fitted(ByHand(warm))
    whole = alone(warm)
    assert rates == pytest.approx(whole[:HANDOVER] + [whole[2 * step] for step in range(STEPS - HANDOVER)])


def test_one_that_heeds_a_metric_is_left_alone():
    class Watching(Settings):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", 1.0)
            return loss

    module = Watching(lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1), interval="epoch")
    module.settings["monitor"] = "loss"
    rates, _ = fitted(module)
    assert rates[0] > rates[HANDOVER - 1] >= rates[HANDOVER] > rates[-1]


def test_a_training_without_an_end_is_refused():
    with pytest.raises(ConfigError, match=r"rela\.rewarm squeezes"):
        tiny.fit(
            tiny.SimCLR("part", warm), tiny.rela(rewarm=True, handover="adaptive"), tiny.loader(),
            max_epochs=-1, max_time="00:00:00:05",
        )  # fmt: skip


def test_one_that_ends_by_steps():
    rates, run = fitted(tiny.SimCLR("part", warm), max_epochs=-1, max_steps=STEPS)
    whole = alone(warm)
    assert run.global_step == STEPS
    assert rates == pytest.approx(whole[:HANDOVER] + [whole[2 * step] for step in range(STEPS - HANDOVER)])


def test_steps_that_are_due():
    assert [replayed(made, 8, 16) for made in (0, 1, 7, 8)] == [0, 2, 14, 16]
    assert [replayed(made, 9, 10) for made in (0, 1, 8, 9)] == [0, 1, 8, 10]


class Mixed(tiny.SimCLR):
    """The tutorial's module with the second line."""

    def contrast(self, one, other):
        loss = super().contrast(one, other)
        return loss if self.features is None else self.rela.mixed(loss, self.features)

    def training_step(self, batch, batch_idx):
        self.rela, self.features = mixing(self), None
        if self.rela is not None:
            self.features = [self.backbone(view) for view in batch[0]]
        return super().training_step(batch, batch_idx)


def test_a_mixture_in_a_module_of_ones_own():
    module, plain = Mixed(), tiny.SimCLR()
    tiny.fit(module, tiny.rela(mix=0.5), tiny.loader())
    tiny.fit(plain, tiny.rela(), tiny.loader())
    assert module.stages == plain.stages == ["accelerated"] * 6 + ["own"] * 6
    assert module.losses[:6] == plain.losses[:6]
    assert module.losses[6] != plain.losses[6]
    with pytest.raises(Exception, match=r"rela\.mix is set"):
        tiny.fit(tiny.SimCLR(), tiny.rela(mix=0.5), tiny.loader())
