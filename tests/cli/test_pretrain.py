"""`rela-zoo pretrain`: composing configurations, the config group of priors, and a run from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError, UnknownPriorError
from rela_zoo.hosts.builtin.compose import compose, packaged_names, resolve_prior_override
from rela_zoo.hosts.config_group import group_names, register_rela_group
from rela_zoo.registry import list_priors

METHODS = ["barlow_twins", "byol", "dino", "mocov2plus", "mocov3", "simclr", "simsiam", "supervised", "swav", "vicreg"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 64 small images."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(64):
            Image.fromarray(generator.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(
                tmp_path / "images" / name / f"{i:02d}.png"
            )
    return tmp_path / "images"


@pytest.mark.parametrize("name", METHODS)
def test_packaged_configurations_are_right(name: str, images: Path) -> None:
    """Each passes every check with nothing but a folder, with and without a prior."""
    from rela_zoo.hosts.builtin.checks import check
    from rela_zoo.hosts.builtin.methods import METHODS as BUILT_IN

    assert sorted(BUILT_IN) == METHODS
    assert set(METHODS) <= set(packaged_names())
    cfg = compose(name, None, [f"data.train_path={images}", "rela=cf10", "rela.data_ratio=0.5"])
    assert cfg.method == name
    assert (cfg.rela.prior, cfg.rela.data_ratio, cfg.rela.handover) == ("cf10", 0.5, "adaptive")
    assert len(check(cfg).train) == 128
    cfg = compose(name, None, [f"data.train_path={images}"])
    assert "rela" not in cfg
    check(cfg)
    # Whatever the file sets is a default of the method's, or of its own.
    assert set(cfg.method_kwargs) <= set(BUILT_IN[name].METHOD_KWARGS)


def test_a_prior_alone_brings_the_default_section_and_replaces_none(images: Path, tmp_path: Path) -> None:
    data = f"data.train_path={images}"
    assert compose("byol", None, [data, "rela.prior=random"]) == compose("byol", None, [data, "rela=random"])
    (tmp_path / "own.yaml").write_text("defaults:\n  - byol\n  - _self_\nrela:\n  prior: cf10\n  data_ratio: 0.7\n")
    cfg = compose("own", tmp_path, [data, "rela.prior=random"])
    assert cfg.rela == {"prior": "random", "data_ratio": 0.7}
    (tmp_path / "group.yaml").write_text("defaults:\n  - byol\n  - override rela: cf10\n  - _self_\n")
    cfg = compose("group", tmp_path, [data, "rela.data_ratio=0.3"])
    assert (cfg.rela.prior, cfg.rela.data_ratio) == ("cf10", 0.3)


def test_multicrop_for_those_that_take_it(images: Path) -> None:
    from rela_zoo.hosts.builtin.checks import check
    from rela_zoo.hosts.builtin.config import resolve_config

    cfg = compose("swav", None, [f"data.train_path={images}", "augmentations=multicrop"])
    check(cfg)
    whole = resolve_config(cfg, 2)
    assert (whole.data.num_large_crops, whole.data.num_small_crops) == (2, 4)


def test_the_group_has_every_prior_and_alias() -> None:
    names = register_rela_group()
    assert names == register_rela_group()
    assert names[0] == "default"
    for spec in list_priors():
        assert {spec.id, *spec.aliases} <= {*names, "default"}
    assert len(group_names()) == len(names) - 2


@pytest.mark.parametrize(("name", "wanted"), [("default", (0.5, "trained")), ("reference", (1.0, "frozen"))])
def test_the_reference_codes_choice_has_a_name(name: str, wanted: tuple[float, str]) -> None:
    cfg = compose("byol", None, [f"rela={name}", "rela.prior=random", "rela.data_ratio=0.5"])
    assert (cfg.rela.power, cfg.rela.head) == wanted
    assert (cfg.rela.prior, cfg.rela.data_ratio) == ("random", 0.5)


@pytest.mark.parametrize("override", ["rela=random-resnet10t", "+rela='random-resnet10t'"])
def test_priors_outside_the_group(override: str) -> None:
    key = override.split("=")[0]
    assert resolve_prior_override([override, "seed=1"], ["default"]) == [
        f"{key}=default",
        "rela.prior='random-resnet10t'",
        "seed=1",
    ]


def test_a_prior_from_a_file(images: Path) -> None:
    from rela_zoo._io.paths import packaged_registry

    entry = packaged_registry() / "clip-vit-b16.yaml"
    cfg = compose("byol", None, [f"data.train_path={images}", f"rela={entry}"])
    assert cfg.rela.prior == str(entry)
    with pytest.raises(UnknownPriorError, match="no registry entry at"):
        compose("byol", None, ["rela=./nothing.yaml"])


def test_wrong_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownPriorError, match="clip-vit-b16"):
        compose("byol", None, ["rela=clip-vit-b61"])
    with pytest.raises(RelaZooError, match="did you mean --config-name simclr"):
        compose("simlcr", None, [])
    with pytest.raises(RelaZooError, match=r"optimizer\.lrr"):
        compose("byol", None, ["optimizer.lrr=1"])


def test_ones_own_folder_of_configurations(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text(
        "defaults:\n  - _self_\n  - augmentations: symmetric\n  - rela: clip-vit-b16\n"
        "  - override hydra/hydra_logging: disabled\nmethod: simclr\ndata:\n  dataset: cifar10\n"
    )
    cfg = compose("mine.yaml", tmp_path / "conf", ["+max_epochs=3", "rela.data_ratio=0.1"])
    assert (cfg.method, cfg.max_epochs, cfg.rela.prior, cfg.rela.data_ratio) == ("simclr", 3, "clip-vit-b16", 0.1)
    assert len(cfg.augmentations) == 1


def test_help_and_print_config(images: Path) -> None:
    shown = CliRunner().invoke(app, ["pretrain", "--help"])
    assert shown.exit_code == 0
    assert "rela.data_ratio=0.2" in shown.output
    printed = CliRunner().invoke(app, ["pretrain", "--print-config", f"data.train_path={images}", "rela=cf10"])
    assert OmegaConf.create(printed.output).rela.prior == "cf10"


def test_a_run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    """BYOL with an untrained prior, through both stages, then the same command again."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    arguments: list[Any] = [
        "pretrain", "--config-name", "byol", f"data.train_path={images}", f"data.val_path={images}",
        "rela=random-resnet10t", "rela.data_ratio=0.5", "rela.handover=0.5", "max_epochs=2", "data.num_workers=0",
        "method_kwargs.proj_hidden_dim=32", "method_kwargs.pred_hidden_dim=32", "optimizer.batch_size=32",
        "accelerator=cpu", "backbone.name=resnet10t",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "handover to byol at step 2" in str(said)
    said.clear()
    assert "trained 2 epochs, 4 steps, 128 samples" in done.output
    assert len(list((tmp_path / "trained_models" / "byol").glob("*/byol-ep=1.ckpt"))) == 1
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert "handover" not in str(said).replace("handover 0.5", "")


@pytest.mark.slow
def test_selection_on_the_command_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    """A policy with options and growing epochs, recorded; then replayed, with the very same result."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")
    monkeypatch.chdir(tmp_path)
    common: list[Any] = [
        "pretrain", "--config-name", "simsiam", f"data.train_path={images}", f"data.val_path={images}",
        "rela=random-resnet10t", "rela.data_ratio=0.5", "rela.handover=0.5", "max_epochs=4", "data.num_workers=0",
        "method_kwargs.proj_hidden_dim=32", "method_kwargs.pred_hidden_dim=32", "optimizer.batch_size=16",
        "accelerator=cpu", "backbone.name=resnet10t",
    ]  # fmt: skip
    phases = "[{name: dedup, until: 0.5}, {name: loss}]"
    growing = f"rela.selection={{name: curriculum, phases: {phases}, growth: 3, record: subsets}}"
    done = CliRunner().invoke(app, [*common, "name=first", growing])
    assert done.exit_code == 0, done.output
    assert "selection curriculum (dedup until 0.5, loss until 1; growth 3)" in str(said)
    # 64 of 128 samples on average: 32, 53, 75 and 96, in batches of 16.
    assert "trained 4 epochs, 15 steps, 240 samples" in done.output
    done = CliRunner().invoke(app, [*common, "name=second", "rela.selection={name: replay, path: subsets}"])
    assert done.exit_code == 0, done.output
    assert "trained 4 epochs, 15 steps, 240 samples" in done.output
    ends = []
    for name in ("first", "second"):
        (path,) = (tmp_path / "trained_models" / "simsiam").glob(f"{name}-*/{name}-ep=3.ckpt")
        ends.append(torch.load(path, weights_only=True)["state_dict"])
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    wrong = CliRunner().invoke(app, [*common, "rela.selection={name: balanced, cluster: 3}"])
    assert wrong.exit_code != 0
    assert "did you mean rela.selection.clusters" in str(wrong.exception)
