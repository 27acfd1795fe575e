"""Kill what this package does, again and again at random moments, and see that nothing is lost and nothing differs.

    python scripts/soak.py --out scripts/results/soak.json [--kills 200] [--only embed pull …] [--seed 0]

Five kinds of work, each first done once undisturbed: `embed`, one process with a worker; `parts`, four processes that
share a folder; `publish` to and `pull` from a Hub server on this machine (that of the tests, in a process of its own);
`train`, the built-in host with a prior and a checkpoint each epoch. Each is then started, killed by SIGKILL at a random
moment of the time that it takes, and started again, until it gets through; then everything is removed, and the next
round begins. A kill counts only if the process was at work. After a kill what was finished is still there, byte for
byte; after a round the result is that of the undisturbed run, byte for byte (weights to the bit). Any difference ends
the script with status 1, and says what differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests"), str(_ROOT / "scripts" / "bench")]

KINDS = ("embed", "parts", "publish", "pull", "train")
_PARTS = 4
_MOST_A_ROUND = 12  # kills; then it may get through, so that results are compared often
_REPO = "org/soak"


class Failure(Exception):
    """Something was lost, or differs."""


class Scene(NamedTuple):
    """One kind of work.

    Attributes:
        work: does it, in a process that may be killed; one for each process that is to be at work at once.
        clear: removes all that it makes.
        finished: name → digest of what must survive a kill.
        result: name → digest of what it makes.
    """

    work: list[Callable[[], Any]]
    clear: Callable[[], None]
    finished: Callable[[], dict[str, str]]
    result: Callable[[], dict[str, str]]


def main() -> None:
    """Set everything up, soak, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="JSON file of the counts")
    parser.add_argument("--kills", type=int, default=200, help="over all kinds of work")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        raise SystemExit(_soak(Path(folder), args))


class _Server:
    """A Hub in a process of its own; `clear` removes all repositories."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": str(_ROOT / "tests")},
        )  # fmt: skip
        self.url = self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def clear(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("clear\n")
        self._said()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _soak(folder: Path, args: argparse.Namespace) -> int:
    server = _Server()
    url = server.url
    # Read when the client and torch are imported, which only happens below. Forks of a process with threads may hang.
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_writer",
        "HF_HUB_DISABLE_TELEMETRY": "1", "RELA_ZOO_HOME": str(folder / "home"), "RELA_ZOO_INDEX": "none",
    }  # fmt: skip
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw, counts, failed = random.Random(args.seed), {}, False
    try:
        makers = {"embed": _embedding, "parts": _parts, "publish": _publishing, "pull": _pulling, "train": _training}
        _prepare(folder)
        for number, kind in enumerate(args.only):
            share = args.kills // len(args.only) + (number < args.kills % len(args.only))
            counts[kind] = found = _rounds(kind, makers[kind](folder, server), share, draw, folder)
            failed |= "failure" in found
            print(f"{kind}: {json.dumps(found)}", flush=True)
    finally:
        server.stop()
    from _results import write_results

    command = f"python scripts/soak.py --kills {args.kills} --seed {args.seed}"
    write_results({"command": command, "kills": sum(one["kills"] for one in counts.values()), **counts}, args.out)
    return int(failed)


def _rounds(kind: str, scene: Scene, kills: int, draw: random.Random, folder: Path) -> dict[str, Any]:
    """Kill one kind of work so often; what was counted."""
    log = folder / f"{kind}.log"
    scene.clear()
    begun = time.monotonic()
    _let_through([_begin(work, log) for work in scene.work], log)
    took, wanted = time.monotonic() - begun, scene.result()
    found: dict[str, Any] = {"kills": 0, "rounds": 0, "missed": 0, "undisturbed_seconds": round(took, 2)}
    found["compared"] = len(wanted)
    if not wanted:
        raise Failure(f"{kind} has made nothing that could be compared")
    try:
        while found["kills"] < kills:
            scene.clear()
            _round(scene, min(_MOST_A_ROUND, kills - found["kills"]), took, draw, log, found)
            found["rounds"] += 1
            _compare(wanted, scene.result(), "the result of a killed run is not that of an undisturbed one")
    except Failure as error:
        found["failure"] = str(error)
    return found


def _round(scene: Scene, most: int, took: float, draw: random.Random, log: Path, found: dict[str, Any]) -> None:
    running = {number: _begin(work, log) for number, work in enumerate(scene.work)}
    for _ in range(most):
        # Later the more is done, or the end of the work would never be seen by a kill.
        time.sleep(draw.uniform(0.0, took / len(running)))
        number = draw.choice(list(running))
        os.kill(running[number], signal.SIGKILL)
        _, status = os.waitpid(running[number], 0)
        if not os.WIFSIGNALED(status):
            found["missed"] += 1
            _check_ended(status, log)
            del running[number]
            if not running:
                return
            continue
        found["kills"] += 1
        before = scene.finished()
        running[number] = _begin(scene.work[number], log)
        time.sleep(0.05)
        after = scene.finished()
        _compare(before, {name: after.get(name, "gone") for name in before}, "what was finished did not survive a kill")
    _let_through(list(running.values()), log)


def _begin(work: Callable[[], Any], log: Path) -> int:
    """A fork that does it; everything is imported already."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _let_through(children: Iterable[int], log: Path) -> None:
    for child in children:
        _check_ended(os.waitpid(child, 0)[1], log)


def _check_ended(status: int, log: Path) -> None:
    if status:
        raise Failure(f"a run that nobody killed failed: {log.read_text(errors='replace')[-3000:]}")


def _compare(wanted: dict[str, str], found: dict[str, str], message: str) -> None:
    differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differ:
        raise Failure(f"{message}: {len(differ)} of {len(wanted)} files differ, such as {differ[0]}")


def _digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """Of the files that are there under their own names; those being written have others, and a dot or an ending."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix not in (".tmp", ".lock", ".incomplete"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# --------------------------------------------------------------------------------------------------------- the scenes


def _prepare(folder: Path) -> None:
    """Pictures, and the published things that pull is to fetch; imports all that the forks need."""
    import rela_zoo.hosts.builtin.train
    import rela_zoo.hub.publish  # noqa: F401
    from rela_zoo.demo import write_digits

    write_digits(folder / "digits")
    # A prior of one's own, so that its weights are published, too.
    entry = {
        "id": "soak-resnet20", "title": "A prior that is killed", "source": "local", "family": "cifar-resnet",
        "architecture": "resnet20", "dim": 64, "file": "soak-resnet20.safetensors", "licence": "apache-2.0",
        "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
        "training_data": "CIFAR-10, with labels",
    }  # fmt: skip
    (folder / "soak-resnet20.yaml").write_text(json.dumps(entry))  # JSON is YAML
    shutil.copy(_ROOT / "rela_zoo" / "weights" / "cifar10-resnet20.safetensors", folder / "soak-resnet20.safetensors")


def _embed(folder: Path, out: Path) -> None:
    from rela_zoo import embed, load_prior

    prior = load_prior(folder / "soak-resnet20.yaml")
    embed(prior, folder / "digits" / "train", out, shard_rows=64, batch_size=32, num_workers=1, progress=False)


def _embedding(folder: Path, server: _Server) -> Scene:
    out = folder / "embedded"
    return Scene(
        [lambda: _embed(folder, out)], lambda: shutil.rmtree(out, ignore_errors=True),
        lambda: _digests(out, "shard-*.safetensors"), lambda: _digests(out),
    )  # fmt: skip


def _parts(folder: Path, server: _Server) -> Scene:
    from rela_zoo import embed_part, load_prior

    out = folder / "parts"

    def part(number: int) -> None:
        embed_part(
            load_prior(folder / "soak-resnet20.yaml"), folder / "digits" / "train", out, (number, _PARTS),
            shard_rows=16, batch_size=16, num_workers=0, progress=False,
        )  # fmt: skip

    return Scene(
        [lambda number=number: part(number) for number in range(1, _PARTS + 1)],  # type: ignore[misc]
        lambda: shutil.rmtree(out, ignore_errors=True),
        lambda: _digests(out, "shard-*.safetensors"), lambda: _digests(out),
    )  # fmt: skip


def _artefacts(folder: Path) -> tuple[Path, Path]:
    """Embeddings and a transport to publish."""
    table, transport = folder / "to-publish", folder / "transport.safetensors"
    if not transport.is_file():
        _let_through([_begin(lambda: _embed(folder, table), folder / "prepare.log")], folder / "prepare.log")

        def fit() -> None:
            from rela_zoo import fit_transport, open_embeddings

            fit_transport(open_embeddings(table)).save(transport)

        _let_through([_begin(fit, folder / "prepare.log")], folder / "prepare.log")
    return table, transport


def _publish(folder: Path, table: Path, transport: Path) -> None:
    from rela_zoo.hub.publish import publish

    entry = folder / "soak-resnet20.yaml"
    publish(_REPO, entry=entry, embeddings={"digits": table}, transports={"digits": transport}, tag="v1")


def _publishing(folder: Path, server: _Server) -> Scene:
    table, transport = _artefacts(folder)

    def finished() -> dict[str, str]:
        files = _published(server.url)
        for kind in ("models", "datasets"):
            mine = {name for name in files if name.startswith(kind) and not name.endswith("/.gitattributes")}
            if mine and not {f"{kind}/README.md", f"{kind}/rela_zoo.json"} <= mine:
                raise Failure(f"half a version was published: {sorted(mine)}")
        return {}

    return Scene([lambda: _publish(folder, table, transport)], server.clear, finished, lambda: _published(server.url))


def _pulling(folder: Path, server: _Server) -> Scene:
    table, transport = _artefacts(folder)
    log = folder / "prepare.log"
    _let_through([_begin(lambda: _publish(folder, table, transport), log)], log)

    def work() -> None:
        from rela_zoo import open_embeddings, pull

        pulled = pull(f"hf://{_REPO}@v1", "digits", what=("embeddings", "transport", "weights"), progress=False)
        assert pulled.embeddings is not None
        open_embeddings(pulled.embeddings, verify="full")

    def clear() -> None:
        shutil.rmtree(folder / "hf", ignore_errors=True)
        shutil.rmtree(folder / "home", ignore_errors=True)

    def result() -> dict[str, str]:
        found = _digests(folder / "home") | _digests(folder / "hf" / "hub", "*/snapshots/**/*")
        # What was verified is noted with the times of this machine's files.
        return {name: digest for name, digest in found.items() if "verified/" not in name}

    return Scene([work], clear, lambda: _digests(folder / "hf" / "hub", "*/snapshots/**/*"), result)


def _training(folder: Path, server: _Server) -> Scene:
    runs = folder / "runs"
    table, transport = _artefacts(folder)

    def work() -> None:
        from rela_zoo.hosts.builtin.compose import compose
        from rela_zoo.hosts.builtin.train import train

        overrides = [
            f"data.train_path={folder / 'digits' / 'train'}", "data.val_path=null", "rela=default",
            f"rela.prior={folder / 'soak-resnet20.yaml'}",
            f"rela.embeddings={table}", f"rela.transport={transport}", "rela.data_ratio=0.1", "rela.handover=0.5",
            "rela.augmentations=method", "max_epochs=6", "checkpoint.frequency=1", f"checkpoint.dir={runs}",
            "auto_resume.enabled=true",
        ]  # fmt: skip
        train(compose("demo", None, overrides))

    def weights() -> dict[str, str]:
        import torch

        (last,) = runs.glob("*/*/*.ckpt")
        state = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
        return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.items()}

    return Scene([work], lambda: shutil.rmtree(runs, ignore_errors=True), dict, weights)


def _published(url: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, repo in (("models", _REPO), ("datasets", f"{_REPO}-embeddings")):
        try:
            with urllib.request.urlopen(f"{url}/api/{kind}/{repo}/tree/main?recursive=true") as answer:
                listed = json.load(answer)
        except urllib.error.HTTPError:
            continue
        found |= {f"{kind}/{one['path']}": one.get("lfs", one)["oid"] for one in listed if one["type"] == "file"}
    return found


_SERVER = """
import sys
from hub_server import HubServer
server = HubServer()
print(server.url, flush=True)
for _ in sys.stdin:
    server.store.repos.clear()
    server.store.large.clear()
    print("cleared", flush=True)
"""


if __name__ == "__main__":
    main()
