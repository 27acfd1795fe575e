"""Two processes on a CPU (gloo): each rank its own part of one subset, the same weights on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.subset import EpochSubset

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from rela_zoo.hosts.builtin.base import BaseMethod
from rela_zoo.hosts.builtin.train import train

seen = []
def note(self, batch, batch_idx, step=BaseMethod.training_step):
    seen.append((self.current_epoch, batch[0].tolist()))
    return step(self, batch, batch_idx)

if __name__ == "__main__":
    torch.set_num_threads(1)
    BaseMethod.training_step = note
    result = train(json.loads(Path(sys.argv[1]).read_text()))
    rank = os.environ.get("LOCAL_RANK", "0")
    out = Path(sys.argv[2])
    (out / f"seen-{rank}.json").write_text(json.dumps([seen, result.samples_seen, result.steps]))
    torch.save(result.method.state_dict(), out / f"state-{rank}.pt")
"""


@pytest.mark.parametrize("case", ["simclr", "byol"])
def test_two_processes(config: dict[str, Any], tmp_path: Path, case: str) -> None:
    config.update(method=case, devices=2, strategy="ddp")
    config["optimizer"]["batch_size"] = 4
    config["data"]["num_workers"] = 0
    if case == "simclr":
        config["devices"] = "02"
        config["method_kwargs"].pop("pred_hidden_dim")
    if case == "byol":
        # The accelerated stage in the first epoch, the method's own in the second.
        config["rela"] = {"prior": "random-resnet18", "data_ratio": 0.7, "handover": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LOCAL_RANK", None)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "config.json"), str(tmp_path)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]

    ranks = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    subset = EpochSubset(24, config.get("rela", {}).get("data_ratio", 1.0), seed=config["seed"])
    for epoch in (0, 1):
        mine, yours = ([i for at, batch in seen if at == epoch for i in batch] for seen, _, _ in ranks)
        assert len(mine) == len(yours) == len(subset) // 2 // 4 * 4
        assert not set(mine) & set(yours)
        assert set(mine) | set(yours) <= set(subset.indices(epoch).tolist())
        if case == "simclr":
            assert sorted(mine + yours) == sorted(subset.indices(epoch).tolist())
    steps = 2 * (len(subset) // 2 // 4)
    assert [(seen, step) for _, seen, step in ranks] == [(steps * 8, steps)] * 2
    states = [torch.load(tmp_path / f"state-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key, value in states[0].items():
        # Running statistics of batch norm are a rank's own between forward passes.
        if "running" not in key:
            assert torch.equal(value, states[1][key]), key
