"""Overrides as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rela_zoo.errors import ConfigError, RelaZooError
from rela_zoo.hosts.builtin._overrides import quote_paths
from rela_zoo.hosts.builtin.compose import compose, refuse_sweep


@pytest.mark.parametrize(
    "path",
    ["run/byol-ep=2.ckpt", "/data/a,b", "/data/[1]/x", "my pictures/{1}", "it's", "/a(1)", "C:\\x\\y", "a=b=c", "#1"],
)
def test_paths_are_taken_as_they_are(path: str) -> None:
    cfg = compose("byol", None, [f"data.train_path={path}", f"+resume_from_checkpoint={path}"])
    assert (cfg.data.train_path, cfg.resume_from_checkpoint) == (path, path)


def test_quoted_paths_null_and_interpolations_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", "/there")
    cfg = compose("byol", None, ["data.train_path='a b'", "data.val_path=null", "checkpoint.dir=${oc.env:MY_DATA}"])
    assert (cfg.data.train_path, cfg.data.val_path, cfg.checkpoint.dir) == ("a b", None, "/there")


@pytest.mark.parametrize("override", ["rela=null", "+rela=null", "~rela"])
def test_a_prior_is_turned_off(override: str, tmp_path: Path) -> None:
    assert "rela" not in compose("byol", None, ["data.train_path=x", override])
    (tmp_path / "own.yaml").write_text("defaults:\n  - byol\n  - override rela: cf10\n  - _self_\n")
    assert compose("own", tmp_path, ["data.train_path=x"]).rela.prior == "cf10"
    assert "rela" not in compose("own", tmp_path, ["data.train_path=x", override])


def test_a_sweep_is_refused_with_a_loop_of_the_shell() -> None:
    for overrides in (["rela=cf10,random"], ["seed=range(3)"]):
        with pytest.raises(RelaZooError, match="one command makes one run"):
            compose("byol", None, ["data.train_path=x", *overrides])
    with pytest.raises(RelaZooError, match=r'for one in cf10 random; do rela-zoo pretrain … rela="\$one"; done'):
        refuse_sweep(["seed=1", "rela=cf10,random"])


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("optimizer.batchsize=3", "optimizer.batch_size"),
        ("batch_size=3", "optimizer.batch_size"),
        ("max_epoch=3", "max_epochs"),
        ("optimiser.lr=3", "optimizer.lr"),
    ],
)
def test_slips_in_keys(override: str, near: str) -> None:
    with pytest.raises(RelaZooError, match=f"did you mean {near}"):
        compose("byol", None, ["data.train_path=x", override])


def test_what_is_no_override() -> None:
    for wrong in ("x[=3", "max_epochs", "=3"):
        with pytest.raises(RelaZooError):
            compose("byol", None, ["data.train_path=x", wrong])


def test_own_settings_that_the_prior_would_override_are_refused(tmp_path: Path) -> None:
    body = "rela:\n  data_ratio: 0.5\n  handover: 0.3\n"
    first = "defaults:\n  - _self_\n  - augmentations: symmetric\n  - rela: cf10\nmethod: byol\ndata: {train_path: x}\n"
    (tmp_path / "lost.yaml").write_text(first + body)
    with pytest.raises(ConfigError) as caught:
        compose("lost", tmp_path, ["data.train_path=x"])
    assert [one.key for one in caught.value.problems] == ["rela.data_ratio", "rela.handover"]
    assert "put _self_ behind" in str(caught.value)
    given = ["data.train_path=x", "rela.data_ratio=0.4", "rela.handover=0.3"]
    assert compose("lost", tmp_path, given).rela.data_ratio == 0.4
    (tmp_path / "kept.yaml").write_text(
        "defaults:\n  - augmentations: symmetric\n  - rela: cf10\n  - _self_\ndata: {train_path: x}\n" + body
    )
    assert compose("kept", tmp_path, ["data.train_path=x"]).rela.data_ratio == 0.5


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "a: 1\na: 2\n", "defaults: nothing\n", "\x00"])
def test_files_that_are_no_configurations(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(RelaZooError):
        compose("bad", tmp_path, [])


def test_several_priors_are_a_list() -> None:
    assert quote_paths(["rela.prior=[a@128,b]"]) == ["rela.prior=[a@128,b]"]
    cfg = compose("byol", None, ["data.train_path=x", "rela.prior=[random@64,self]", "rela.embeddings=['a b/c',d]"])
    assert list(cfg.rela.prior) == ["random@64", "self"]
    assert list(cfg.rela.embeddings) == ["a b/c", "d"]
    assert quote_paths(["data.train_path=[x]"]) == ["data.train_path='[x]'"]
