"""Several optimisers, gradients accumulated over batches, and a head that is really trained."""

import pytest

spt = pytest.importorskip("stable_pretraining")
tiny = pytest.importorskip("tiny_spt")

from rela_zoo.hosts.stable_pretraining import accelerate  # noqa: E402

pytestmark = pytest.mark.spt
PROJECTOR = {"modules": "projector", "optimizer": {"type": "SGD", "lr": 0.1}, "scheduler": "ConstantLR"}
BACKBONE = {"modules": "backbone", "optimizer": {"type": "AdamW", "lr": 0.01}, "scheduler": "LinearWarmup"}
SEVERAL = {"projector": PROJECTOR, "backbone": BACKBONE}


class Head(tiny.pl.Callback):
    """The head's weights at the start, and the rates of its optimiser in each step."""

    def __init__(self):
        self.start, self.rates = None, []

    def on_train_start(self, trainer, pl_module):
        self.start = {name: one.detach().clone() for name, one in pl_module.rela_head.named_parameters()}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        which = {id(one) for one in pl_module.rela_head.parameters()}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if which & {id(one) for one in group["params"]}:
                    self.rates.append({one["lr"] for one in optimizer.param_groups})
                    self.of = optimizer

    def moved(self, head):
        return [name for name, one in head.named_parameters() if (one != self.start[name]).any()]


@pytest.mark.parametrize("optim", [None, SEVERAL], ids=["one optimiser", "several"])
@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_a_head_is_trained_if_it_is_to_be(optim, head):
    module = accelerate(tiny.module(optim=optim), tiny.rela(head=head))
    look, probe = Head(), tiny.probe(module)
    run = tiny.fit(module, probe, look)
    assert look.moved(tiny.accelerator(run).head) == (["weight", "bias"] if head == "trained" else [])
    # Two or three optimisers, the probe's among them, are stepped after each batch: that is one step.
    assert run.global_step == 12
    assert tiny.accelerator(run).handover_step == 6
    if head == "trained":
        assert all(len(rates) == 1 for rates in look.rates)
        assert look.of is run.optimizers[0 if optim is None else 1]
        assert len(look.rates) == 12


@pytest.mark.parametrize("where", ["one optimiser", "several"])
def test_gradients_accumulated_over_batches(where):
    """Five batches in an epoch, two in a step, and the fifth makes none."""
    optim = {"optimizer": {"type": "AdamW", "lr": 1e-2}, "scheduler": "ConstantLR", "frequency": 2}
    if where == "several":
        optim = {name: {**one, "frequency": 2} for name, one in SEVERAL.items()}
    module, record = accelerate(tiny.module(optim=optim), tiny.rela(data_ratio=5 / 6)), tiny.Record()
    run = tiny.fit(module, record)
    assert run.global_step == 8
    assert tiny.accelerator(run).handover_step == 4
    assert module.seen == [("fit", epoch, True) for epoch in (0, 1) for _ in range(5)]


def test_handover_within_an_epoch():
    module, record = (
        accelerate(tiny.module(), tiny.rela(handover=0.125, handover_at="step", data_ratio=1.0)),
        tiny.Record(),
    )
    run = tiny.fit(module, record, log_every_n_steps=1)
    handover = tiny.accelerator(run).handover_step
    assert 3 < handover < 6
    assert len(module.seen) == 24 - handover
