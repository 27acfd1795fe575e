"""Learning-rate schedules begin anew at the handover, whichever they are; and the accelerated loss in a mixture."""

import math

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.optim import lr_scheduler

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


@pytest.mark.parametrize("schedule", [closed, chained, warm])
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
