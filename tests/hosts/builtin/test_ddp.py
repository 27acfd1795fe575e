"""Two processes on a CPU (gloo): each rank its own part of one subset, the same weights on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from rela_zoo.selection.subset import EpochSubset

# Both runs in one pair of processes, for starting them is what takes time.
SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from rela_zoo.hosts.builtin.base import BaseMethod
from rela_zoo.hosts.builtin.train import train

seen = []
def note(self, batch, batch_idx, step=BaseMethod.training_step):
    seen.append((self.trainer.current_epoch, batch[0].tolist()))
    return step(self, batch, batch_idx)

if __name__ == "__main__":
    torch.set_num_threads(1)
    BaseMethod.training_step = note
    out = Path(sys.argv[2])
    for config in json.loads(Path(sys.argv[1]).read_text()):
        seen.clear()
        result = train(config)
        rank = torch.distributed.get_rank()
        name = f"{config['method']}-{rank}"
        (out / f"{name}.json").write_text(json.dumps([seen, result.samples_seen, result.steps]))
        torch.save(result.method.state_dict(), out / f"{name}.pt")
"""


def configurations(config: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """SimCLR; BYOL with the accelerated stage in the first epoch, its own in the second; SimSiam drawing by losses.

    BYOL's views are made on the devices.
    """
    config["optimizer"]["batch_size"] = 4
    simclr = {**config, "method": "simclr", "method_kwargs": {"proj_hidden_dim": 32, "proj_output_dim": 16}}
    byol = {**config, "rela": {"prior": "random-resnet18", "data_ratio": 0.7, "handover": 0.5}}
    selection = {"name": "loss", "momentum": 0.0, "record": str(folder)}
    simsiam = {**byol, "method": "simsiam", "rela": {**byol["rela"], "selection": selection}}
    simsiam["method_kwargs"] = {"proj_hidden_dim": 32, "proj_output_dim": 16, "pred_hidden_dim": 16}
    # The spelling that solo-learn takes, and the natural one.
    return [
        {**simclr, "devices": "02", "strategy": "ddp"},
        {**byol, "devices": 2, "strategy": "ddp", "data": {**config["data"], "cache": "device", "views_on": "device"}},
        {**simsiam, "devices": 2, "strategy": "ddp"},
    ]


@pytest.mark.slow
def test_two_processes(config: dict[str, Any], tmp_path: Path) -> None:
    runs = configurations(config, tmp_path / "subsets")
    (tmp_path / "config.json").write_text(json.dumps(runs))
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "config.json"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for run in runs:
        name = run["method"]
        ranks = [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
        subset = EpochSubset(24, run.get("rela", {}).get("data_ratio", 1.0), seed=run["seed"])
        for epoch in (0, 1):
            drawn = subset.indices(epoch).tolist()
            if name == "simsiam":
                # Drawn by the losses that both ranks have seen, and recorded by the first.
                table = pq.read_table(tmp_path / "subsets" / f"epoch-{epoch:05d}.parquet")
                drawn = table.column("index").to_pylist()
                assert (len(set(table.column("weight").to_pylist())) > 1) == (epoch == 1)
            mine, yours = ([i for at, batch in seen if at == epoch for i in batch] for seen, _, _ in ranks)
            assert len(mine) == len(yours) == len(subset) // 2 // 4 * 4
            assert not set(mine) & set(yours)
            assert set(mine) | set(yours) == set(drawn[: len(mine) * 2])
        steps = 2 * (len(subset) // 2 // 4)
        assert [(samples, step) for _, samples, step in ranks] == [(steps * 8, steps)] * 2
        states = [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        for key, value in states[0].items():
            # Running statistics of batch norm are a rank's own between forward passes.
            if "running" not in key:
                assert torch.equal(value, states[1][key]), (name, key)
    assert "handover to byol at step 2" in done.stdout
