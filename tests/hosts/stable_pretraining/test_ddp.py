"""Two processes on a CPU (gloo): each its own part of one subset, the same weights on both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

spt = pytest.importorskip("stable_pretraining")
tiny = pytest.importorskip("tiny_spt")

from rela_zoo.selection.subset import EpochSubset  # noqa: E402

pytestmark = pytest.mark.spt
METHODS = ["simclr", "byol", "dino", "vicreg"]

# All runs in one pair of processes, for starting them is what takes time.
SCRIPT = """
import json, sys
from pathlib import Path
import tiny_spt as tiny, torch
from stable_pretraining.callbacks import TeacherStudentCallback
from rela_zoo.hosts.stable_pretraining import accelerate

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    for method in ("simclr", "byol", "dino", "vicreg"):
        module, record = accelerate(tiny.module(method), tiny.rela(head="trained", data_ratio=0.7)), tiny.Record()
        callbacks = [tiny.probe(module), TeacherStudentCallback(), record]
        data = tiny.loader(tiny.images(tiny.multi_crop() if method == "dino" else tiny.two_views()))
        run = tiny.fit(module, *callbacks, data=data, devices=2, strategy="ddp", max_epochs=2)
        accelerator, name = tiny.accelerator(run), f"{method}-{run.global_rank}"
        told = [record.samples, module.seen, accelerator.handover_step, run.global_step]
        (out / f"{name}.json").write_text(json.dumps(told))
        parameters = {name: one.detach() for name, one in module.named_parameters()}
        torch.save({**parameters, **accelerator.head.state_dict()}, out / f"{name}.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spt_home):
    out = tmp_path_factory.mktemp("ddp")
    (out / "script.py").write_text(SCRIPT)
    gone = ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
    environment = {key: value for key, value in os.environ.items() if key not in gone}
    paths = [str(Path(tiny.__file__).parent), environment.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(out / "script.py"), str(out)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**environment, "PYTHONPATH": os.pathsep.join(paths), "RELA_ZOO_HOME": str(spt_home)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("method", METHODS)
def test_two_processes(folder, method):
    mine, yours = [json.loads((folder / f"{method}-{rank}.json").read_text()) for rank in (0, 1)]
    # 16 of 24 samples in an epoch, in batches of four on each of two ranks: two steps.
    assert mine[1:] == yours[1:] == [[["fit", 0, True]] * 2, 2, 4]
    for epoch in (0, 1):
        parts = [[i for batch in told[0][2 * epoch : 2 * epoch + 2] for i in batch] for told in (mine, yours)]
        assert not set(parts[0]) & set(parts[1])
        assert set(parts[0]) | set(parts[1]) == set(EpochSubset(tiny.N, 0.7, seed=0).indices(epoch).tolist())
    one, two = [torch.load(folder / f"{method}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(one[name], two[name]) for name in one)
