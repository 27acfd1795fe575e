"""What a host may tell the wrapper: its own checks, data that come otherwise; and how epochs look to a method."""

import pytest
import tiny_host as host
import torch

from rela_zoo import with_rela
from rela_zoo.data import image_source
from rela_zoo.engine import ViewShape
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.host import Host
from rela_zoo.hosts.lightning import LoaderData


class CountsEpochs(host.Method):
    """Notes the epoch it sees at each start, as methods do that freeze a layer for the first epochs."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.seen = []
        self.momentum_updater = type("Updater", (), {"cur_tau": 0.5})()

    def on_train_epoch_start(self):
        self.seen.append((self.trainer.current_epoch, self.current_epoch))

    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        self.momentum_updater.cur_tau += 0.01


def _fit(cls, rela, ckpt=None, **settings):
    torch.manual_seed(0)
    module = cls(host.config(rela))
    run = host.trainer(**settings)
    run.fit(module, host.loader(), ckpt_path=ckpt, weights_only=True if ckpt else None)
    return module, run


@pytest.mark.parametrize(
    ("rela", "seen"),
    [
        (None, [0, 1, 2, 3]),
        ({"handover": 0.5}, [0, 0, 0, 1]),
        ({"handover": 0.0}, [0, 1, 2, 3]),
        ({"handover": 1.0}, [0, 0, 0, 0]),
        ({"prior": None}, [0, 1, 2, 3]),
    ],
)
def test_a_method_counts_epochs_from_the_handover(rela, seen):
    module, _ = _fit(with_rela(CountsEpochs), rela)
    assert module.seen == list(enumerate(seen))


def test_so_it_does_after_resumption_and_the_momentum_goes_on(tmp_path):
    wrapped = with_rela(CountsEpochs)
    first, run = _fit(wrapped, {"handover": 0.5, "data_ratio": 0.5})
    run.save_checkpoint(tmp_path / "end.ckpt")
    again, _ = _fit(wrapped, {"handover": 0.5, "data_ratio": 0.5}, tmp_path / "end.ckpt", max_epochs=6)
    assert again.seen == [(4, 2), (5, 3)]
    assert again.momentum_updater.cur_tau == pytest.approx(first.momentum_updater.cur_tau + 2 * 6 * 0.01)


def test_problems_known_to_the_host_are_listed_with_the_others():
    class Picky(Host):
        def check(self, cfg):
            return [Problem("data.format", "something else", str(cfg.method), "choose another")]

    wrapped = with_rela(host.Method, Picky())
    with pytest.raises(ConfigError) as caught:
        wrapped(host.config({"head": "thawed", "data_ratio": 7}))
    assert {problem.key for problem in caught.value.problems} == {"rela.head", "rela.data_ratio", "data.format"}
    with pytest.raises(ConfigError) as caught:
        wrapped(host.config({"prior": "no-such-prior"}))
    assert {problem.key for problem in caught.value.problems} == {"rela.prior", "data.format"}
    wrapped(host.config())  # without a section the host is not asked


def test_data_that_come_otherwise_are_joined_and_put_back_by_the_host():
    asked = []

    class Otherwise(LoaderData):
        def __init__(self, trainer):
            super().__init__(trainer)
            self._images, self.source = self.source, image_source(host.Images())

        def install(self, accelerator, views):
            asked.append((accelerator.config.data_ratio, accelerator.sampler.subset.seed, views))
            self.source = self._images
            return super().install(accelerator, None)

    class Own(Host):
        def data(self, module):
            return Otherwise(module.trainer)

    module, run = _fit(with_rela(host.Method, Own()), {"handover": 0.5, "data_ratio": 0.5})
    assert asked == [(0.5, 3, ViewShape(host.SIDE, 2))]
    assert run.global_step == 24
    assert module.rela.handover_step == 12
