"""An extraction that is killed at any moment goes on, and its bytes are those of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rela_zoo
from rela_zoo.embeddings import embed, open_embeddings
from rela_zoo.errors import EmbeddingsError

DRIVER = Path(__file__).with_name("kill_driver.py")
SHARDS = dict(shard_rows=16, batch_size=5, progress=False)


def start(mode: str, out: Path) -> subprocess.Popen[bytes]:
    root = str(Path(rela_zoo.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(DRIVER), mode, str(out)], env=environment, stdout=subprocess.PIPE)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def undisturbed(tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any) -> dict[str, bytes]:
    embed(make_prior(), make_pictures(50), tmp_path / "undisturbed", **SHARDS)
    return files_of(tmp_path / "undisturbed")


def test_killed_at_every_disk_operation_and_again_and_again(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    process = start("itself", tmp_path / "killed")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert int(said) >= 4
    assert files_of(tmp_path / "killed" / "repeated") == undisturbed

    folders = sorted((tmp_path / "killed").glob("0*"))
    # 4 shards, plan, ids and index: each an fsync, a rename and an fsync of the folder; plan and lock are unlinked
    assert len(folders) >= 7 * 3 + 2
    states = set()
    for folder in folders:
        states.add(tuple(sorted(one.name for one in folder.iterdir())))
        embed(make_prior(), make_pictures(50), folder, **SHARDS)
        assert files_of(folder) == undisturbed, folder.name
        open_embeddings(folder, verify="full")
    assert len(states) >= 12  # the moments really were different


def test_collided_with_then_killed_from_outside(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    out = tmp_path / "killed"
    process = start("slow", out)
    try:
        wait_for(out / "shard-00000.safetensors", process)
        with pytest.raises(EmbeddingsError, match="another process is writing"):
            embed(make_prior(), make_pictures(50), out, **SHARDS)
        wait_for(out / "shard-00001.safetensors", process)  # the one that came first is not disturbed
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert not (out / "index.json").exists()
    # its worker outlives it by seconds, and must not keep the folder locked
    (out / "shard-00002.safetensors.tmp").write_bytes(b"cut sho")
    before = {one.name: one.stat().st_mtime_ns for one in out.glob("shard-*.safetensors")}
    with pytest.raises(EmbeddingsError, match="unfinished extraction"):
        open_embeddings(out)

    prior = make_prior()
    embed(prior, make_pictures(50), out, **SHARDS)
    assert files_of(out) == undisturbed
    assert prior.calls < 11  # 4 + 4 + 4 + 1 batches, and finished shards are not computed again
    assert all((out / name).stat().st_mtime_ns == at for name, at in before.items())


def test_ctrl_c_keeps_finished_shards(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    out = tmp_path / "stopped"

    class Impatient(make_prior):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if self.calls == 9:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        embed(Impatient(), make_pictures(50), out, **SHARDS)
    assert sorted(one.name for one in out.iterdir()) == [
        "partial.json",
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    embed(make_prior(), make_pictures(50), out, **SHARDS)
    assert files_of(out) == undisturbed


def test_a_damaged_shard_of_an_unfinished_run_is_made_again(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    stopped = tmp_path / "stopped"

    class Impatient(make_prior):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if self.calls == 9:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        embed(Impatient(), make_pictures(50), stopped, **SHARDS)
    path = stopped / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    embed(make_prior(), make_pictures(50), stopped, **SHARDS)
    assert files_of(stopped) == undisturbed


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("prior", "prior.id"),
        ("ids", "the sample ids"),
        ("count", "number of images"),
        ("dtype", "dtype"),
        ("shard_rows", "source.shard_rows"),
    ],
)
def test_going_on_with_something_else_is_refused(
    tmp_path: Path, make_prior: Any, make_pictures: Any, finished: bool, change: str, named: str, files_of: Any
) -> None:
    class Impatient(make_prior):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if self.calls == 5 and not finished:
                raise KeyboardInterrupt
            return super().forward(x)

    try:
        embed(Impatient(), make_pictures(50), tmp_path, **SHARDS)
    except KeyboardInterrupt:
        assert not finished
    before = files_of(tmp_path)
    prior = make_prior("other" if change == "prior" else "fake")
    data = make_pictures(49 if change == "count" else 50, seed=change == "ids")
    options: dict[str, Any] = {**SHARDS}
    options |= {"dtype": "float32"} if change == "dtype" else {"shard_rows": 8} if change == "shard_rows" else {}
    with pytest.raises(EmbeddingsError, match=named) as caught:
        embed(prior, data, tmp_path, **options)
    assert caught.value.expected
    assert caught.value.got
    assert caught.value.fix
    assert files_of(tmp_path) == before


def test_a_run_that_had_finished_no_shard_binds_nobody(tmp_path: Path, make_prior: Any, make_pictures: Any) -> None:
    with pytest.raises(EmbeddingsError, match="too large for float16"):
        embed(make_prior(scale=1e5), make_pictures(50), tmp_path, **SHARDS)
    assert embed(make_prior(scale=1e5), make_pictures(50), tmp_path, dtype="float32", **SHARDS).info.dtype == "float32"


def test_a_finished_folder_needs_no_writing(
    tmp_path: Path, make_prior: Any, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(make_prior(), make_pictures(50), tmp_path, **SHARDS)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(os, "open", refused)
    assert len(embed(make_prior(), make_pictures(50), tmp_path, **SHARDS)) == 50


def test_other_pictures_under_the_same_names_are_refused(tmp_path: Path, make_prior: Any, make_folder: Any) -> None:
    make_folder(tmp_path / "a", {"cat": 3, "dog": 3}, seed=1)
    make_folder(tmp_path / "b", {"cat": 3, "dog": 3}, seed=2)
    embed(make_prior(), tmp_path / "a", tmp_path / "out", progress=False)
    with pytest.raises(EmbeddingsError, match="the pictures"):
        embed(make_prior(), tmp_path / "b", tmp_path / "out", progress=False)
