"""The plain loop is the method: it learns what the built-in host learns on the same draws, and resumes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from rela_zoo.hosts.builtin.train import initial_method, train

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "examples" / "plain_loop.py"
EPOCHS, BATCH, LR = 4, 8, 1e-3


@pytest.fixture(scope="module")
def loop():
    found = importlib.util.spec_from_file_location("plain_loop", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch, make_folder):
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    make_folder(tmp_path / "images", {"a": 16, "b": 16})
    return tmp_path / "images"


def test_it_is_short_and_the_readme_quotes_it():
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) < 60
    readme = (SCRIPT.parents[2] / "README.md").read_text()
    quoted = readme.partition("## In a loop of your own")[2].partition("```python\n")[2].partition("```")[0]
    assert len(quoted.splitlines()) == 9
    assert {line.strip() for line in quoted.splitlines()} <= {line.strip() for line in lines}
    assert f"in {len(lines)} lines" in readme


@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_it_reaches_the_loss_of_the_built_in_host_on_the_same_draws(loop, folder, tmp_path, head):
    rela = {"prior": "cifar10-resnet20", "data_ratio": 0.5, "handover": 0.5, "head": head}
    config = {
        "method": "simclr",
        "method_kwargs": {"proj_hidden_dim": 512, "proj_output_dim": 128, "temperature": 0.2},
        "backbone": {"name": "resnet18"},
        "data": {"dataset": "custom", "train_path": str(folder)},
        "augmentations": [loop.VIEW],
        "optimizer": {"name": "adamw", "batch_size": BATCH, "lr": LR * 256 / BATCH, "weight_decay": 1e-4},
        "scheduler": {"name": "none"},
        "performance": {"disable_channel_last": True},
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "seed": 0,
        "enable_progress_bar": False,
        "rela": rela,
    }
    start = initial_method(config)
    losses = loop.train(
        folder,
        tmp_path / "loop.ckpt",
        rela,
        EPOCHS,
        BATCH,
        LR,
        seed=0,
        student=start.backbone,
        projector=start.projector,
    )
    means = torch.tensor(losses).view(EPOCHS, -1).mean(dim=1)
    rows = train(config).history
    hosts = [row["train_rela_loss"] for row in rows[:2]] + [row["train_nce_loss"] for row in rows[2:]]
    assert means.tolist() == pytest.approx(hosts, rel=1e-4)


def test_stopped_and_called_again_it_ends_the_same(loop, folder, tmp_path):
    class Stop(Exception):
        pass

    class Tired(nn.Module):
        """A student that gives up in the middle of the third epoch."""

        def __init__(self, calls):
            super().__init__()
            torch.manual_seed(1)
            self.net, self.left = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 512)), calls

        def forward(self, x):
            self.left -= 1
            if self.left == 0:
                raise Stop
            return self.net(x)

    def run(name, calls=-1):
        arguments = {"rela": {**loop.RELA, "data_ratio": 0.5}, "epochs": EPOCHS, "batch_size": BATCH, "lr": LR}
        return loop.train(folder, tmp_path / name, **arguments, student=Tired(calls))

    whole = run("whole.ckpt")
    with pytest.raises(Stop):
        run("stopped.ckpt", calls=9)
    assert run("stopped.ckpt") == whole[4:]
    kept, expected = (torch.load(tmp_path / name, weights_only=True) for name in ("stopped.ckpt", "whole.ckpt"))
    assert all(torch.equal(kept["student"][key], value) for key, value in expected["student"].items())
