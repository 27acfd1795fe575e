"""Two processes on a CPU (gloo): each its own part of one subset, the same weights on both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from test_rewarm import alone, warm

from rela_zoo.selection.subset import EpochSubset

# Both runs in one pair of processes, for starting them is what takes time.
SCRIPT = """
import json, sys
from pathlib import Path
import tiny, torch
from test_rewarm import Mixed, Rates, warm

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    for head, takes in (("frozen", "all"), ("trained", "part")):
        module, callback = tiny.SimCLR(takes), tiny.rela(head=head, data_ratio=0.7)
        run = tiny.fit(module, callback, tiny.loader(), devices=2, strategy="ddp", max_epochs=2)
        name = f"{head}-{run.global_rank}"
        accelerator = callback.accelerator
        (out / f"{name}.json").write_text(json.dumps([module.seen, accelerator.handover_step]))
        torch.save([module.state_dict(), accelerator.head.state_dict()], out / f"{name}.pt")
    module, rates = Mixed("part", warm), Rates()
    callback = tiny.rela(head="trained", mix="linear", rewarm=True, data_ratio=0.7)
    run = tiny.fit(module, callback, tiny.loader(), callbacks=[rates], devices=2, strategy="ddp", max_epochs=12)
    name = f"mixed-{run.global_rank}"
    (out / f"{name}.json").write_text(json.dumps([module.seen, rates.seen]))
    torch.save([module.state_dict(), callback.accelerator.head.state_dict()], out / f"{name}.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lightning_home):
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
        env={**environment, "PYTHONPATH": os.pathsep.join(paths), "RELA_ZOO_HOME": str(lightning_home)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_two_processes(folder, head):
    (mine, at), (yours, _) = [json.loads((folder / f"{head}-{rank}.json").read_text()) for rank in (0, 1)]
    # 16 of 24 samples in an epoch, in batches of four on each of two ranks: two steps.
    assert [one[0] for one in mine] == [one[0] for one in yours] == ["accelerated"] * 2 + ["own"] * 2
    assert at == 2
    for epoch in (0, 1):
        parts = [[i for _, when, samples, *_ in seen if when == epoch for i in samples] for seen in (mine, yours)]
        assert not set(parts[0]) & set(parts[1])
        assert set(parts[0]) | set(parts[1]) == set(EpochSubset(tiny.N, 0.7, seed=0).indices(epoch).tolist())
    states = [torch.load(folder / f"{head}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for one, two in zip(*states, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_two_processes_with_a_mixture_and_schedules_anew(folder):
    (mine, rates), (yours, theirs) = [json.loads((folder / f"mixed-{rank}.json").read_text()) for rank in (0, 1)]
    assert [one[0] for one in mine] == [one[0] for one in yours] == ["accelerated"] * 12 + ["own"] * 12
    assert rates == theirs
    whole = alone(warm)
    assert rates == pytest.approx(whole[:12] + [whole[2 * step] for step in range(12)])
    states = [torch.load(folder / f"mixed-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for one, two in zip(*states, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
