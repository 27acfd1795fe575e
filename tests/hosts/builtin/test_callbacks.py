"""What else is installed has no part in a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from rela_zoo.hosts.builtin.train import train

# A package that, as stable-pretraining does, asks Lightning to add a callback to every Trainer.
NOISY = """
from lightning.pytorch import Callback

class Noisy(Callback):
    def on_train_start(self, trainer, pl_module):
        raise OSError("the tracker can't be reached")

def make():
    return [Noisy()]
"""
GROUP = "[lightning.pytorch.callbacks_factory]\nnoisy = noisy_package:make\n"


def test_callbacks_of_other_packages_stay_out(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "noisy_package-1.0.dist-info").mkdir(parents=True)
    (site / "noisy_package-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: noisy-package\nVersion: 1.0\n"
    )
    (site / "noisy_package-1.0.dist-info" / "entry_points.txt").write_text(GROUP)
    (site / "noisy_package.py").write_text(NOISY)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    seen = []

    class Look(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.extend(type(one).__module__.split(".")[0] for one in trainer.callbacks)

    config["max_epochs"] = 1
    train(config, callbacks=[Look()])
    assert "noisy_package" in sys.modules
    assert set(seen) <= {"rela_zoo", "lightning", __name__.split(".")[0]}
