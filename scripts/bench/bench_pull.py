"""Time `rela_zoo.pull` of published embeddings against `huggingface_hub.snapshot_download` of the same repository.

    python scripts/bench/bench_pull.py --temp DIR --out scripts/bench/results/pull.json [--rows 1281167]

Rows are random float16. The Hub is the tests' own, in a process of its own on this machine, so that what counts is what
the two do beside waiting: requests, hashing, start-up. Each fetch is a process with an empty cache; the two take turns,
and the figures are medians. `call_s` is the call alone, `process_s` the whole process, with Python and the imports,
`cpu_s` what the process used of the CPU, which tells most on a machine that does other things, too.
Needs about three times the size of the rows on the disk, and once in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPO, PRIOR, DATA = "org/noise-rows", "org/noise", "noise"
TOOLS = ("huggingface_hub.snapshot_download", "rela_zoo.pull")
BAR = 1.25
_TIMES = ("call_s", "process_s", "cpu_s")


def make_rows(folder: Path, rows: int, dim: int) -> None:
    """A true artefact, hashes and all, in the shards that `embed` would write."""
    import numpy as np
    import torch

    from rela_zoo.embeddings import write_rows

    piece = 4096
    block = np.random.default_rng(0).normal(size=(piece, dim)).astype(np.float16)
    pieces = (
        torch.from_numpy(np.roll(block, number, axis=1)[: rows - first])
        for number, first in enumerate(range(0, rows, piece))
    )
    ids = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(rows)]
    write_rows(folder, pieces, ids, prior={"id": "noise"})


def serve(folder: Path) -> None:
    """Be the Hub: publish the folder, say where, then answer each line with the number of requests since the last."""
    import yaml

    sys.path.insert(0, str(ROOT / "tests"))
    from hub_server import HubServer

    hub = HubServer()
    files = {f"{DATA}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    commit = hub.store.add(REPO, files, kind="dataset")
    place = {
        "repo": REPO, "revision": commit, "path": DATA,
        "sha256": hashlib.sha256(files[f"{DATA}/index.json"]).hexdigest(),
    }  # fmt: skip
    entry = {
        "id": "noise", "title": "Random rows", "family": "cifar-resnet", "architecture": "resnet20", "dim": 64,
        "file": "model.safetensors", "sha256": "0" * 64, "pin": "confirmed", "licence": "mit",
        "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
        "artefacts": {DATA: {"embeddings": place}},
    }  # fmt: skip
    prior = hub.store.add(PRIOR, {"prior.yaml": yaml.safe_dump(entry).encode()})
    print(json.dumps({"url": hub.url, "commit": commit, "prior": f"hf://{PRIOR}@{prior}"}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(len(hub.requests)), flush=True)
        hub.requests.clear()


def fetch(tool: str, commit: str, prior: str) -> None:
    """Runs in a process of its own: the call, and how long it took."""
    started = time.perf_counter()
    if tool == TOOLS[0]:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(REPO, repo_type="dataset", revision=commit)) / DATA
    else:
        import rela_zoo

        pulled = rela_zoo.pull(prior, DATA, what=("embeddings",))
        assert pulled.embeddings is not None
        folder = pulled.embeddings
    seconds = time.perf_counter() - started
    found = sum(path.stat().st_size for path in folder.iterdir())
    print(json.dumps({"call_s": seconds, "bytes": found, "files": len(list(folder.iterdir()))}))


def one_run(tool: str, hub: subprocess.Popen[str], at: dict[str, str], temp: Path) -> dict[str, Any]:
    home = temp / "home"
    env = {
        **os.environ, "HF_ENDPOINT": at["url"], "HF_HOME": str(home / "hf"), "RELA_ZOO_HOME": str(home / "rela"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "RELA_ZOO_INDEX": "none",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    for name in [name for name in env if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "hf_hub_offline")]:
        del env[name]
    os.sync()  # nobody writes the other's files to the disk
    requests(hub)
    started, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, __file__, "--fetch", tool, at["commit"], at["prior"]],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seconds, now = time.perf_counter() - started, os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    found |= {"process_s": seconds, "cpu_s": cpu, "requests": requests(hub)}
    shutil.rmtree(home)
    return found


def requests(hub: subprocess.Popen[str]) -> int:
    """How many there were since this was last asked."""
    assert hub.stdin is not None
    assert hub.stdout is not None
    hub.stdin.write("\n")
    hub.stdin.flush()
    return int(hub.stdout.readline())


def main(args: argparse.Namespace) -> None:
    from _results import write_results

    temp = Path(tempfile.mkdtemp(prefix="bench-pull-", dir=args.temp))
    result: dict[str, Any] = {"rows": args.rows, "dim": args.dim, "dtype": "float16", "repeats": args.repeats}
    hub = None
    try:
        make_rows(temp / "rows", args.rows, args.dim)
        command = [sys.executable, __file__, "--serve", str(temp / "rows")]
        hub = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert hub.stdout is not None
        at = json.loads(hub.stdout.readline())
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
        for repeat in range(args.repeats):
            for tool in TOOLS if repeat % 2 == 0 else TOOLS[::-1]:
                runs[tool].append(one_run(tool, hub, at, temp))
    finally:
        if hub is not None:
            hub.terminate()
            hub.wait()
        shutil.rmtree(temp)
    theirs = runs[TOOLS[0]][0]
    result |= {"bytes": theirs["bytes"], "files": theirs["files"]}
    for tool, found in runs.items():
        medians = {key: round(statistics.median(one[key] for one in found), 2) for key in _TIMES}
        result[tool] = {**medians, "requests": found[0]["requests"]}
        if {one["bytes"] for one in found} != {theirs["bytes"]}:
            raise SystemExit(f"{tool} has fetched other files: {found}")
    ratios = {key: round(result[TOOLS[1]][key] / result[TOOLS[0]][key], 2) for key in _TIMES}
    result |= {"ratio": ratios, "wanted_ratio_at_most": BAR}
    print(write_results(result, args.out), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temp", type=Path, default=Path(tempfile.gettempdir()), help="folder with room")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fetch", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
    elif given.fetch:
        fetch(*given.fetch)
    else:
        main(given)
