"""Trainings use what is published, lock it, and make what is not."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
import yaml

from rela_zoo.errors import HubError, RelaZooError
from rela_zoo.registry import prior_spec
from rela_zoo.transport import fit_transport

DIM = 64


def _train(zoo, prior: str | None, epochs: int = 1, batch_size: int = 8):
    from omegaconf import OmegaConf

    from rela_zoo.hosts.builtin.compose import compose
    from rela_zoo.hosts.builtin.train import train

    overrides = [
        "rela=default", "rela.prior=null" if prior is None else f"rela.prior='{prior}'", "rela.data_ratio=0.5",
        f"max_epochs={epochs}", "rela.handover=1.0",
        f"optimizer.batch_size={batch_size}", f"data.train_path='{zoo.images / 'train'}'",
        f"checkpoint.dir='{zoo.work}'", "auto_resume.enabled=false",
    ]  # fmt: skip
    return train(OmegaConf.to_container(compose("demo", None, overrides), resolve=True))


def test_training_uses_what_is_published_and_never_loads_the_prior(zoo, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the prior was loaded")

    monkeypatch.setattr("rela_zoo.prior._load.load_prior", refuse)
    result = _train(zoo, zoo.name)
    assert result.steps == 1
    assert not zoo.hub.calls("model.safetensors")
    lock = json.loads((result.folder / "rela.lock").read_text())
    assert {one["kind"] for one in lock["artefacts"]} == {"embeddings", "transport"}
    assert all(one["repo"] and len(one["revision"]) == 40 and len(one["sha256"]) == 64 for one in lock["artefacts"])
    zoo.hub.stop()
    monkeypatch.setenv("RELA_ZOO_LOCKED", "1")
    assert _train(zoo, zoo.name).steps == 1
    lock["artefacts"][0]["sha256"] = "1" * 64
    (result.folder / "rela.lock").write_text(json.dumps(lock))
    with pytest.raises(HubError, match=r"(?s)other embeddings than the lock file"):
        _train(zoo, zoo.name)


def test_a_lock_file_of_another_run_is_compared_by_sha256_wherever_the_new_folder_is(zoo, monkeypatch, tmp_path):
    result = _train(zoo, zoo.name)
    lock = tmp_path / "elsewhere" / "rela.lock"
    lock.parent.mkdir()
    before = json.loads((result.folder / "rela.lock").read_text())
    monkeypatch.setenv("RELA_ZOO_LOCK", str(lock))

    def trained_with(prior: str | None = zoo.name, **changes: str):
        changed = [{**one, **changes} for one in before["artefacts"]]
        lock.write_text(json.dumps({**before, "artefacts": changed}))
        zoo.work = tmp_path / "another"  # the folder of the run, too
        return _train(zoo, prior)

    # The same bytes, published again: another commit, another repository.
    again = trained_with(revision="1" * 40, repo="org/moved")
    assert again.folder != result.folder
    assert json.loads((again.folder / "rela.lock").read_text()) == before
    # The same commit with other bytes.
    with pytest.raises(HubError, match=rf"(?s)other embeddings, transport than the lock.*expected.*sha256 {'2' * 64}"):
        trained_with(sha256="2" * 64)
    # Rows that are made here instead, and a run without a prior.
    for prior in ("cifar10-resnet20", None):
        with pytest.raises(HubError, match=r"(?s)would use other embeddings"):
            trained_with(prior)
    lock.unlink()
    with pytest.raises(HubError, match=r"(?s)no lock file.*elsewhere.*--lock FILE"):
        _train(zoo, zoo.name)


def test_the_lock_file_is_read_before_the_work(zoo, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from rela_zoo.cli import app

    monkeypatch.setenv("RELA_ZOO_LOCK", "")  # what the command sets ends with the test
    lock = tmp_path / "some.lock"
    command = ["pretrain", "--config-name", "demo", "--lock", str(lock), f"data.train_path={zoo.images / 'train'}"]
    with pytest.raises(HubError, match="no lock file"):
        CliRunner().invoke(app, [*command, f"rela.prior={zoo.name}"], catch_exceptions=False)
    lock.write_text("[")
    with pytest.raises(HubError, match="is damaged"):
        CliRunner().invoke(app, [*command, f"rela.prior={zoo.name}"], catch_exceptions=False)
    lock.write_text('{"format": 1, "artefacts": []}')
    with pytest.raises(RelaZooError, match="nothing that could be locked"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not zoo.work.exists()


def test_a_transport_of_other_rows_is_neither_used_nor_locked(zoo, tmp_path):
    rows = torch.randn(30, DIM, generator=torch.Generator().manual_seed(9))
    fit_transport(rows, max_dim=12).save(tmp_path / "other.safetensors")
    data = (tmp_path / "other.safetensors").read_bytes()
    zoo.entry["artefacts"]["toy"]["transport"]["sha256"] = hashlib.sha256(data).hexdigest()
    files = {"prior.yaml": yaml.safe_dump(zoo.entry).encode(), "transports/toy.safetensors": data}
    zoo.hub.store.add("org/home-made", files)
    result = _train(zoo, f"hf://org/home-made@{zoo.commit_of('org/home-made', 'model')}")
    lock = json.loads((result.folder / "rela.lock").read_text())
    assert [one["kind"] for one in lock["artefacts"]] == ["embeddings"]


def test_rows_that_are_made_here_are_locked_with_the_weights_that_made_them(zoo):
    result = _train(zoo, "cifar10-resnet20")
    rows, weights = json.loads((result.folder / "rela.lock").read_text())["artefacts"]
    assert (rows["kind"], rows["repo"]) == ("embeddings", None)
    assert weights["kind"] == "weights"
    assert weights["sha256"] == prior_spec("cifar10-resnet20").sha256


@pytest.mark.parametrize("fitted", [True, False])
def test_a_training_fetches_its_shards_alone_where_a_transport_of_all_rows_is_there(zoo, fitted):
    for one in (zoo.images / "train" / "1").iterdir():
        one.unlink()  # what is left are rows 0 to 11
    (zoo.images / "train" / "1").rmdir()
    name = zoo.name
    if not fitted:
        del zoo.entry["artefacts"]["toy"]["transport"]
        zoo.hub.store.add("org/home-made", {"prior.yaml": yaml.safe_dump(zoo.entry).encode()})
        name = f"hf://org/home-made@{zoo.commit_of('org/home-made', 'model')}"
    result = _train(zoo, name, batch_size=4)
    assert len(zoo.hub.calls("shard-0000[01]")) == 2
    assert bool(zoo.hub.calls("shard-00002")) is not fitted, "a transport is fitted on all rows or on none"
    lock = json.loads((result.folder / "rela.lock").read_text())
    assert lock["artefacts"][0]["sha256"] == zoo.entry["artefacts"]["toy"]["embeddings"]["sha256"]
