"""Loss, ρ and stage in Lightning's own progress bar, and no reading of the device for it."""

import tiny
import torch
from lightning.pytorch.callbacks import ProgressBar


class Bar(ProgressBar):
    """Notes what a bar would show after each batch."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def disable(self):
        pass

    def on_train_batch_end(self, trainer, pl_module, *args):
        super().on_train_batch_end(trainer, pl_module, *args)
        values = self.get_metrics(trainer, pl_module)
        self.shown.append({key: value for key, value in values.items() if key.startswith("rela/")})


def test_the_bar_shows_loss_rho_and_stage():
    bar, module = Bar(), tiny.SimCLR()
    settings = {"callbacks": [bar], "enable_progress_bar": True, "log_every_n_steps": 2}
    tiny.fit(module, tiny.rela(handover="adaptive"), tiny.loader(), **settings)
    assert [sorted(one) for one in bar.shown[:2]] == [[], ["rela/loss", "rela/rho", "rela/stage"]]
    assert bar.shown[1]["rela/stage"] == 1.0
    assert abs(bar.shown[1]["rela/loss"] - module.losses[1]) < 1e-5
    bar, module = Bar(), tiny.SimCLR()
    tiny.fit(module, tiny.rela(handover=0.5), tiny.loader(), **{**settings, "callbacks": [bar]})
    last = [one for one in bar.shown if one][-1]
    assert last["rela/stage"] == 2.0
    assert "rela/rho" not in last


def test_what_is_logged_lies_on_the_cpu_and_only_every_few_steps():
    logged = []

    class Module(tiny.SimCLR):
        def log_dict(self, values, *args, **more):
            if more.get("prog_bar"):
                logged.append((self.trainer.global_step, [value.device for value in values.values()]))
            super().log_dict(values, *args, **more)

    tiny.fit(Module(), tiny.rela(), tiny.loader(), callbacks=[Bar()], enable_progress_bar=True, log_every_n_steps=4)
    assert [step for step, _ in logged] == [4, 8, 12]
    assert {device for _, devices in logged for device in devices} == {torch.device("cpu")}


def test_without_a_bar_nothing_is_read():
    callback = tiny.rela()
    tiny.fit(tiny.SimCLR(), callback, tiny.loader(), log_every_n_steps=1)
    assert callback.run.bar() == {}
