"""The built-in host on a GPU: what a CPU trains, every method, every option that moves tensors of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tiny_builtin import KWARGS

from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.momentum import MomentumUpdater
from rela_zoo.hosts.builtin.train import TrainResult, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RELA = {"prior": "random", "data_ratio": 0.7, "handover": 0.5, "seed": 11}
OPTIONS: dict[str, dict[str, Any]] = {
    "several priors": {"prior": ["random", "random-test_resnet"]},
    "self": {"prior": "self"},
    "mixed": {"mix": "linear", "handover": 0.5},
    "adaptive": {"handover": "adaptive"},
    "plateau": {"handover": "plateau"},
    "surpass": {"handover": "surpass", "prior": "random-resnet18"},
    "mlp": {"head": "mlp"},
    "rewarmed": {"rewarm": True},
    "near centres": {"selection": "coverage"},
}


class Losses(Callback):
    """(samples, loss) of each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.seen.append((batch[0].tolist(), float(loss.detach())))


def trained(config: dict[str, Any], *callbacks: Callback, **changes: Any) -> TrainResult:
    config = copy.deepcopy(config)
    config["data"].update(changes.pop("data", {}))
    config.update({"accelerator": "gpu", **changes})
    return train(config, callbacks=callbacks)


def finite(result: TrainResult) -> bool:
    values = result.method.state_dict().values()
    return all(bool(torch.isfinite(value).all()) for value in values)


@pytest.mark.parametrize("cache", ["none", "memory", "device"])
@pytest.mark.parametrize("views_on", ["workers", "device"])
def test_trains_what_a_cpu_trains(config: dict[str, Any], cache: str, views_on: str) -> None:
    if (views_on, cache) == ("workers", "device"):
        pytest.skip("workers can't read what a device holds")
    config["rela"], config["checkpoint"]["enabled"] = RELA, False
    config["backbone"] = {"name": "resnet18"}  # no chance of its own: a GPU's is another
    config["optimizer"]["lr"] = 1e-4
    data = {"cache": cache, "views_on": views_on, "num_workers": 2}
    here, there = Losses(), Losses()
    trained(config, here, data=data, max_epochs=4)
    trained(config, there, data=data, max_epochs=4, accelerator="cpu")
    assert len(here.seen) == 8
    for (samples, loss), (others, other) in zip(here.seen, there.seen, strict=True):
        assert samples == others
        assert loss == pytest.approx(other, rel=0.02, abs=0.005)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods(config: dict[str, Any], folders: Path, name: str, precision: str) -> None:
    config.update(method=name, method_kwargs=KWARGS[name], rela=RELA, precision=precision)
    result = trained(config, data={"views_on": "device", "cache": "device", "val_path": str(folders / "val")})
    assert result.steps == 4
    assert finite(result)


@pytest.mark.parametrize("option", OPTIONS)
def test_options(config: dict[str, Any], option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rela_zoo.engine.surpass._LEAST", 4)
    monkeypatch.setattr("rela_zoo.engine.surpass._NEIGHBOURS", 3)
    config.update(rela={**RELA, **OPTIONS[option]}, precision="bf16-mixed")
    losses = Losses()
    result = trained(config, losses, max_epochs=4, data={"views_on": "device"})
    assert finite(result)
    assert all(torch.isfinite(torch.tensor(loss)) for _, loss in losses.seen)


@pytest.mark.parametrize("views_on", ["workers", "device"])
def test_resumed_as_if_never_stopped(config: dict[str, Any], views_on: str) -> None:
    config.update(rela=RELA, max_epochs=4, auto_resume={"enabled": True})
    whole = Losses()
    trained(config, whole, data={"views_on": views_on}, checkpoint={"enabled": False})

    class Stop(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if (trainer.current_epoch, batch_idx) == (2, 1):
                raise RuntimeError("stopped here")

    with pytest.raises(RuntimeError, match="stopped here"):
        trained(config, Stop(), data={"views_on": views_on})
    rest = Losses()
    trained(config, rest, data={"views_on": views_on})
    assert len(rest.seen) == 4
    for (samples, loss), (others, other) in zip(rest.seen, whole.seen[4:], strict=True):
        assert samples == others
        assert loss == pytest.approx(other, rel=0.02, abs=0.005)


def test_momentum_networks_follow_as_on_a_cpu() -> None:
    torch.manual_seed(0)
    online, twin = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3).requires_grad_(False)
    there = [copy.deepcopy(one).cuda() for one in (online, twin)]
    MomentumUpdater(0.9).update(online, twin)
    MomentumUpdater(0.9).update(*there)
    for ours, theirs in zip(there[1].parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
