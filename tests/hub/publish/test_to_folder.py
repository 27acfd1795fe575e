"""A zoo without the Hub: published to a folder, copied, read from there or from an fsspec address, checked alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from rela_zoo import embed, load_prior, open_embeddings, pull
from rela_zoo.cli import app
from rela_zoo.errors import HubError, RegistryError, RelaZooError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def alone(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No Hub, no token, no index, and no mirror but the one that a test names."""
    hub.stop()
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")
    monkeypatch.setenv("RELA_ZOO_MIRROR", "")
    return monkeypatch


def files(place: Path, kind: str = "datasets", repo: str = "org/home-made-embeddings") -> Path:
    commit = (place / kind / repo / "refs" / "main").read_text()
    return place / kind / repo / commit


def test_a_copy_of_the_folder_is_all_that_others_need(alone: Any, home: Any, send: Any, tmp_path: Path) -> None:
    done = send(to=tmp_path / "zoo")
    assert (done.tag, done.changed) == ("v1", True)
    again = send(to=tmp_path / "zoo")
    assert (again.commit, again.tag, again.changed) == (done.commit, "v1", False)
    with pytest.raises(RelaZooError):
        pull(done.name)
    shutil.copytree(tmp_path / "zoo", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "zoo")
    alone.setenv("RELA_ZOO_MIRROR", str(tmp_path / "elsewhere"))
    pulled = pull(done.name, what=("embeddings", "transport", "weights"))
    assert pulled.embeddings.is_relative_to(tmp_path / "elsewhere"), "read where it lies"
    table = open_embeddings(pulled.embeddings, verify="full")
    assert table.digest == open_embeddings(home.embeddings).digest
    assert load_prior(done.name).dim == 64
    assert pull("hf://org/home-made").name == pull("hf://org/home-made@v1").name == done.name
    assert {one.repo for one in pulled.artefacts} == {"org/home-made", "org/home-made-embeddings"}
    alone.setenv("RELA_ZOO_MIRROR", f"file://{tmp_path / 'elsewhere'}")
    assert pull(done.name).embeddings == pulled.embeddings


def test_it_is_the_layout_that_load_dataset_reads(alone: Any, home: Any, send: Any, tmp_path: Path) -> None:
    import datasets

    send(to=tmp_path / "zoo")
    rows = datasets.load_dataset(str(files(tmp_path / "zoo")), "zoo", split="train", cache_dir=tmp_path / "cache")
    assert rows["id"][:] == list(open_embeddings(home.embeddings).ids)


def test_what_was_there_stays_and_versions_are_kept(alone: Any, home: Any, send: Any, tmp_path: Path) -> None:
    first = send(to=tmp_path / "zoo")
    with pytest.warns(UserWarning, match="no known hash"):
        ants = embed(load_prior(home.entry), home.images / "ant", tmp_path / "ants", progress=False)
    second = send(to=tmp_path / "zoo", embeddings={"ants": ants.path}, transports={})
    assert (first.tag, second.tag) == ("v1", "v2")
    alone.setenv("RELA_ZOO_MIRROR", str(tmp_path / "zoo"))
    for name in (first.name, second.name):
        assert len(open_embeddings(pull(name, "zoo").embeddings, verify="full")) == 20
    assert len(open_embeddings(pull(second.name, "ants").embeddings, verify="full")) == 10
    shard = files(tmp_path / "zoo") / "zoo" / "shard-00000.safetensors"
    assert shard.stat().st_nlink == 2, "one copy on the disk, in both versions"


def test_a_damaged_file_is_refused_and_left_to_its_owner(alone: Any, send: Any, tmp_path: Path) -> None:
    done = send(to=tmp_path / "zoo")
    alone.setenv("RELA_ZOO_MIRROR", str(tmp_path / "zoo"))
    folder = files(tmp_path / "zoo")
    for path, says in (
        (folder / "zoo" / "shard-00000.safetensors", "shard-00000"),
        (files(tmp_path / "zoo", "models", "org/home-made") / "prior.yaml", r"prior\.yaml"),
    ):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(RelaZooError, match=rf"(?s){says}.*damaged in the mirror"):
            pull(done.name)
        assert path.exists()
        path.write_bytes(data)
        pull(done.name)


def test_an_address_of_fsspec_is_copied_once_and_checked(alone: Any, send: Any, tmp_path: Path) -> None:
    done = send(to=tmp_path / "zoo")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path / 'zoo'}/", "/zoo/", recursive=True)
    alone.setenv("RELA_ZOO_MIRROR", "memory://zoo")
    pulled = pull(done.name)
    assert len(open_embeddings(pulled.embeddings, verify="full")) == 20
    shard = pulled.embeddings / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert len(open_embeddings(pull(done.name).embeddings, verify="full")) == 20, "a damaged copy is made anew"
    memory.rm("/zoo", recursive=True)
    alone.setenv("RELA_ZOO_MIRROR", "")
    assert pull(done.name) == pulled, "what was copied needs no mirror"
    alone.setenv("RELA_ZOO_MIRROR", "nonsense://zoo")
    shutil.rmtree(pulled.embeddings)
    with pytest.raises(HubError, match="an address that fsspec can read"):
        pull(done.name)


def test_the_commands(alone: Any, home: Any, tmp_path: Path) -> None:
    runner = CliRunner()
    command = [
        "publish",
        "--repo",
        "org/home-made",
        "--entry",
        str(home.entry),
        "--embeddings",
        f"zoo={home.embeddings}",
    ]
    said = runner.invoke(app, [*command, "--to", str(tmp_path / "zoo"), "--yes"], catch_exceptions=False).stdout
    assert f"RELA_ZOO_MIRROR={tmp_path / 'zoo'}" in said
    name = next(word for word in said.split() if word.startswith("hf://"))
    pulled = runner.invoke(app, ["pull", name, "--from", str(tmp_path / "zoo"), "--json"], catch_exceptions=False)
    assert Path(json.loads(pulled.stdout)["embeddings"]).is_dir()
    with pytest.raises(RegistryError, match="neither proposals nor rights"):
        runner.invoke(app, [*command, "--to", str(tmp_path / "zoo"), "--private"], catch_exceptions=False)


@pytest.mark.slow
def test_a_stranger_trains_from_a_mirror_and_goes_on_locked(alone: Any, home: Any, send: Any, tmp_path: Path) -> None:
    done = send(to=tmp_path / "zoo")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "RELA_ZOO_HOME": str(tmp_path / "stranger"),
        "RELA_ZOO_MIRROR": str(tmp_path / "zoo"), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    overrides = [
        f"rela.prior={done.name}", "rela.data_ratio=0.8", "rela.handover=1.0", "max_epochs=1",
        "optimizer.batch_size=8", f"data.train_path={home.images}", f"checkpoint.dir={tmp_path / 'runs'}",
        "auto_resume.enabled=false",
    ]  # fmt: skip
    for extra in ((), ("--locked",)):
        ran = subprocess.run(
            [sys.executable, "-m", "rela_zoo", "pretrain", "--config-name", "demo", *extra, *overrides],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    assert "published in org/home-made-embeddings" in ran.stdout + ran.stderr
