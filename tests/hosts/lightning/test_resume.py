"""A run that is resumed ends bit for bit like one that was not; and what is in a checkpoint."""

import lightning.pytorch as pl
import pytest
import tiny
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from rela_zoo.errors import RelaZooError


def _each_epoch(folder):
    return ModelCheckpoint(str(folder), filename="{epoch}", save_top_k=-1, save_last=True)


def _schedule(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=12)


def _run(folder, callback, ckpt=None, workers=0):
    module = tiny.SimCLR("part", _schedule)
    tiny.fit(
        module, callback, tiny.loader(workers), ckpt=ckpt, enable_checkpointing=True, callbacks=[_each_epoch(folder)]
    )
    return module


def _flat(value):
    if isinstance(value, dict):
        return [x for key in sorted(value, key=str) for x in _flat(value[key])]
    if isinstance(value, list | tuple):
        return [x for part in value for x in _flat(part)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_resumed_in_either_stage(tmp_path, head):
    whole = _run(tmp_path / "whole", tiny.rela(head=head))
    end = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)
    for epoch, workers in ((0, 0), (2, 2)):
        folder = tmp_path / f"from {epoch}"
        resumed = _run(folder, tiny.rela(head=head), tmp_path / "whole" / f"epoch={epoch}.ckpt", workers)
        assert resumed.seen == whole.seen[3 * (epoch + 1) :]
        again = torch.load(folder / "last.ckpt", weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "rela", "global_step"):
            assert _flat(again[part]) == _flat(end[part]), part


def test_resumed_within_the_steps_of_optimisers_stepped_by_hand(tmp_path):
    class ByHand(tiny.SimCLR):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self):
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.backbone, self.projector)]

        def training_step(self, batch, batch_idx):
            self.manual_backward(super().training_step(batch, batch_idx))
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

    steps = []
    for ckpt in (None, tmp_path / "epoch=0.ckpt"):
        module, callback = ByHand(), tiny.rela()
        saving = [_each_epoch(tmp_path)] if ckpt is None else []
        tiny.fit(module, callback, tiny.loader(), ckpt=ckpt, enable_checkpointing=ckpt is None, callbacks=saving)
        steps.append(callback.accelerator.handover_step)
    assert steps == [6, 6]
    assert module.stages == ["accelerated"] * 3 + ["own"] * 6


class _SavesWeights(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path, weights_only=True)


def test_a_checkpoint_is_one_of_the_plain_module_too(tmp_path):
    callback = tiny.rela(head="trained", handover=1.0)
    module = tiny.SimCLR()
    run = tiny.fit(module, callback, tiny.loader(), callbacks=[_SavesWeights(tmp_path / "weights.ckpt")])
    run.save_checkpoint(tmp_path / "whole.ckpt")
    for name in ("weights", "whole"):
        loaded = tiny.SimCLR.load_from_checkpoint(tmp_path / f"{name}.ckpt")
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))
    kept = torch.load(tmp_path / "whole.ckpt", weights_only=True)["rela"]["head"]
    assert torch.equal(kept["weight"], callback.accelerator.head.weight)


def test_a_checkpoint_of_a_run_without_the_callback_is_refused(tmp_path):
    run = tiny.fit(tiny.SimCLR(), None, tiny.loader(), max_epochs=1)
    run.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(RelaZooError, match="of a run without rela"):
        tiny.fit(tiny.SimCLR(), tiny.rela(), tiny.loader(), ckpt=tmp_path / "plain.ckpt")


def test_a_checkpoint_over_other_draws_is_refused(tmp_path):
    run = tiny.fit(tiny.SimCLR(), tiny.rela(), tiny.loader(), max_epochs=2)
    run.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(RelaZooError, match="drew other subsets"):
        tiny.fit(tiny.SimCLR(), tiny.rela(seed=1), tiny.loader(), ckpt=tmp_path / "other.ckpt")


def test_validation_with_a_checkpoint_leaves_the_run_alone(tmp_path):
    class Validated(tiny.SimCLR):
        def validation_step(self, batch, batch_idx):
            self.log("width", float(batch[0][0].shape[-1]))

    module, callback = Validated(), tiny.rela()
    held = tiny.loader(shuffle=False)
    run = tiny.trainer(callback, enable_checkpointing=True, max_epochs=2, default_root_dir=tmp_path)
    run.fit(module, tiny.loader(), held)
    state = callback.accelerator.state_dict()
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert run.validate(module, held, ckpt_path=tmp_path / "end.ckpt") == [{"width": tiny.OWN}]
    assert _flat(callback.accelerator.state_dict()) == _flat(state)
