"""One artefact by many processes: the same bytes, nothing made twice at once, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rela_zoo
from rela_zoo._io.lock import locked
from rela_zoo._io.ranks import part_of_environment
from rela_zoo.cli import app
from rela_zoo.embeddings import count_shards, embed, embed_part, embed_shard, open_embeddings
from rela_zoo.embeddings._format import default_shard_rows
from rela_zoo.errors import EmbeddingsError

DRIVER = Path(__file__).with_name("kill_driver.py")
SHARDS: dict[str, Any] = dict(shard_rows=16, batch_size=5, progress=False)


@pytest.fixture
def undisturbed(tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any) -> dict[str, bytes]:
    embed(make_prior(), make_pictures(50), tmp_path / "undisturbed", **SHARDS)
    return files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("part", [(1, 1), (2, 3), (9, 9)])
def test_a_part_alone_makes_everything(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any, part: tuple[int, int]
) -> None:
    table = embed_part(make_prior(), make_pictures(50), tmp_path / "out", part, **SHARDS)
    assert table is not None
    assert len(table) == 50
    assert files_of(tmp_path / "out") == undisturbed


def test_what_another_is_at_work_on_is_left_to_it(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    out = tmp_path / "out"
    prior = make_prior()
    with locked(out, name=".claim-00001"):
        assert embed_part(prior, make_pictures(50), out, (2, 2), **SHARDS) is None
        assert not (out / "shard-00001.safetensors").exists()
        assert not (out / "index.json").exists()
        before = prior.calls
        # A plain run beside it would take its half-written shard for a leftover.
        with pytest.raises(EmbeddingsError, match="another process is writing a part"):
            embed(prior, make_pictures(50), out, **SHARDS)
    # Only what was missing is made: sixteen images in batches of five.
    assert embed_part(prior, make_pictures(50), out, (1, 2), **SHARDS) is not None
    assert prior.calls - before == 4
    assert files_of(out) == undisturbed


def test_a_plain_run_goes_on_where_parts_have_stopped(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    out = tmp_path / "out"
    with locked(out, name=".claim-00003"):
        embed_part(make_prior(), make_pictures(50), out, (1, 2), **SHARDS)
    (out / ".claim-00000").touch()  # of a killed part
    embed(make_prior(), make_pictures(50), out, **SHARDS)
    assert files_of(out) == undisturbed


def test_a_damaged_shard_is_made_again(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    out = tmp_path / "out"
    with locked(out, name=".claim-00003"):
        embed_part(make_prior(), make_pictures(50), out, (1, 2), **SHARDS)
    (out / "shard-00002.safetensors").write_bytes(b"no tensors")
    assert embed_part(make_prior(), make_pictures(50), out, (1, 2), **SHARDS) is not None
    assert files_of(out) == undisturbed


def test_pictures_are_those_that_the_first_part_began_with(tmp_path: Path, make_prior: Any, make_folder: Any) -> None:
    make_folder(tmp_path / "data", {"a": 20})
    out = tmp_path / "out"
    with locked(out, name=".claim-00001"):
        assert embed_part(make_prior(), tmp_path / "data", out, (1, 2), **{**SHARDS, "shard_rows": 8}) is None
    assert list(out.glob(".digests-*"))
    os.utime(tmp_path / "data" / "a" / "003.png", (1, 1))  # as a picture that was written anew
    with pytest.raises(EmbeddingsError, match="pictures have changed since"):
        embed_part(make_prior(), tmp_path / "data", out, (2, 2), **{**SHARDS, "shard_rows": 8})
    embed(make_prior(), tmp_path / "data", out, **{**SHARDS, "shard_rows": 8})
    embed(make_prior(), tmp_path / "data", tmp_path / "fresh", **{**SHARDS, "shard_rows": 8})
    assert (out / "index.json").read_bytes() == (tmp_path / "fresh" / "index.json").read_bytes()
    assert not list(out.glob(".digests-*"))


def test_digests_of_the_pictures_come_from_all_parts(
    tmp_path: Path, make_prior: Any, make_folder: Any, files_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "data", {"a": 20})
    options = {**SHARDS, "shard_rows": 8}
    embed(make_prior(), tmp_path / "data", tmp_path / "one", **options)
    with locked(tmp_path / "out", name=".claim-00001"):
        embed_part(make_prior(), tmp_path / "data", tmp_path / "out", (1, 2), **options)
    # No picture is read a second time for its digest.
    monkeypatch.setattr("rela_zoo.embeddings._extract.digest_of", None)
    embed_part(make_prior(), tmp_path / "data", tmp_path / "out", (1, 2), **options)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")


def test_nobody_finishes_while_another_still_writes_what_belongs_to_a_shard(
    tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any
) -> None:
    """The shard is there before the digests of its pictures are, and its claim is held until then."""
    out = tmp_path / "out"
    with locked(out, name=".claim-00003"):
        embed_part(make_prior(), make_pictures(50), out, (1, 2), **SHARDS)
    shutil.copy(tmp_path / "undisturbed" / "shard-00003.safetensors", out)
    with locked(out, name=".claim-00003"):
        assert embed_part(make_prior(), make_pictures(50), out, (2, 2), **SHARDS) is None
        assert not (out / "index.json").exists()
    assert embed_part(make_prior(), make_pictures(50), out, (2, 2), **SHARDS) is not None
    assert files_of(out) == undisturbed


@pytest.mark.parametrize("part", [(0, 2), (3, 2)])
def test_there_is_no_such_part(tmp_path: Path, make_prior: Any, make_pictures: Any, part: tuple[int, int]) -> None:
    with pytest.raises(EmbeddingsError, match="there is no such part"):
        embed_part(make_prior(), make_pictures(4), tmp_path / "out", part, **SHARDS)


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}, (7, 8)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "8"}, (1, 8)),
        ({"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "2",
          "SLURM_ARRAY_TASK_COUNT": "3"}, (3, 3)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (4, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"RANK": "3"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_environment_says_which_part(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], part: tuple[int, int] | None
) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert part_of_environment() == part


def test_the_command(tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "data", {"a": 6})
    call = ["embed", "cifar10-resnet20", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--no-progress"]
    with locked(tmp_path / "out", name=".claim-00000"):
        done = CliRunner().invoke(app, [*call, "--part", "1/2"])
    assert done.exit_code == 0
    assert "part 1 of 2 is done" in done.stdout
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    done = CliRunner().invoke(app, [*call, "--part", "auto"])
    assert done.exit_code == 0
    assert "6 rows of 64 float16" in done.stdout
    for wrong in ("three", "1", "1/0", "5/2"):
        assert CliRunner().invoke(app, [*call, "--part", wrong]).exit_code != 0


def test_shards_by_number(tmp_path: Path, undisturbed: Any, make_prior: Any, make_pictures: Any, files_of: Any) -> None:
    out, data = tmp_path / "out", make_pictures(50)
    assert count_shards(data, shard_rows=16) == 4
    prior = make_prior()
    assert embed_shard(prior, data, out, [2, 0], **SHARDS) is None
    assert sorted(one.name for one in out.glob("shard-*")) == ["shard-00000.safetensors", "shard-00002.safetensors"]
    before = prior.calls
    assert embed_shard(prior, data, out, 2, **SHARDS) is None
    assert prior.calls == before, "what is there is not made again"
    with locked(out, name=".claim-00003"):
        assert embed_shard(prior, data, out, 3, **SHARDS) is None
    # Without a size, that of the folder.
    assert count_shards(data, out=out) == 4
    assert embed_shard(prior, data, out, 1, **{**SHARDS, "shard_rows": None}) is None
    assert len(embed_shard(prior, data, out, 3, **SHARDS) or []) == 50
    assert len(embed_shard(prior, data, out, 0, **SHARDS) or []) == 50
    assert files_of(out) == undisturbed
    for wrong in (4, -1, []):
        with pytest.raises(EmbeddingsError, match="no such shards"):
            embed_shard(prior, data, tmp_path / "other", wrong, **SHARDS)


def test_jobs_of_a_scheduler(tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    make_folder(tmp_path / "data", {"a": 6})
    root = str(Path(rela_zoo.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
    call = ["embed", "cifar10-resnet20", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    local = [*call, "--submit", "local", "--parts", "2", "--job", "timeout_min=5"]
    done = CliRunner().invoke(app, [*local, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["jobs"]) == 2
    deadline = time.monotonic() + 240
    while not (tmp_path / "out" / "index.json").is_file():
        assert time.monotonic() < deadline, [one.read_text() for one in Path(found["logs"]).glob("*.err")]
        time.sleep(0.5)
    assert len(open_embeddings(tmp_path / "out")) == 6
    for words, message in (
        (["--submit", "local", "--job", "timeout"], "can't be read"),
        (["--submit", "local", "--job", "no_such_option=1"], "can't be submitted"),
        (["--submit", "local", "--part", "1/2"], "makes the parts itself"),
    ):
        done = CliRunner().invoke(app, [*call, *words])
        assert message in str(done.exception)
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(app, [*call, "--submit", "slurm"])
    assert "can't be submitted to slurm" in str(done.exception)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(1, 4096), (50_000, 4096), (262_144, 4096), (262_145, 8192), (1_281_167, 32_768), (10**9, 262_144)],
)
def test_shards_grow_with_the_data(rows: int, wanted: int) -> None:
    assert default_shard_rows(rows) == wanted
    assert -(-rows // wanted) <= 10_000


def test_an_artefact_keeps_its_shards(tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any) -> None:
    """One begun when shards had another size is gone on with, and is found when it is asked for again."""
    with locked(tmp_path / "out", name=".claim-00003"):
        embed_part(make_prior(), make_pictures(50), tmp_path / "out", (1, 2), **SHARDS)
    table = embed(make_prior(), make_pictures(50), tmp_path / "out", progress=False)
    assert len(table.info.shards) == 4
    assert embed(make_prior(), make_pictures(50), tmp_path / "out", progress=False).digest == table.digest
    assert len(embed(make_prior(), make_pictures(50), tmp_path / "new", progress=False).info.shards) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_eight_parts_and_fifty_kills(tmp_path: Path, make_prior: Any, make_pictures: Any, files_of: Any) -> None:
    root = str(Path(rela_zoo.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(DRIVER), "parts", str(tmp_path / "parts")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    # So many were at work when they were killed, on however slow a machine.
    assert int(done.stdout) >= 25
    embed(make_prior(), make_pictures(1000), tmp_path / "one", shard_rows=5, batch_size=5, progress=False)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "one")
    assert len(open_embeddings(tmp_path / "parts", verify="full")) == 1000
