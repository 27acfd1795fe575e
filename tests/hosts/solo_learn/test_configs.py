"""The ready configurations compose in an unmodified solo-learn, and differ from its own recipes by the prior alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rela_zoo.engine.config import parse_rela
from rela_zoo.registry import prior_spec

ROOT = Path(__file__).resolve().parents[3] / "scripts" / "pretrain"
READY = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*/*.yaml"))
# solo-learn's own, for comparison; it has no DINO, SimCLR and MoCo v3 for ImageNet.
UPSTREAM = [name for name in READY if not name.startswith("imagenet/") or name == "imagenet/byol.yaml"]


def test_the_four_methods_are_there_for_each_data_set():
    methods = ("byol", "dino", "mocov3", "simclr")
    folders = ("cifar", "imagenet", "imagenet-100")
    assert set(READY) == {f"{folder}/{method}.yaml" for folder in folders for method in methods}


@pytest.fixture(scope="module")
def composed(solo):
    def job(folder, name, *overrides):
        path = folder / name
        return solo.make_job(solo.arguments(path, "--cfg", "job", *overrides), record=False)

    jobs = {("ready", name): job(ROOT, name) for name in READY}
    jobs |= {("upstream", name): job(solo.checkout / "scripts" / "pretrain", name) for name in UPSTREAM}
    jobs["ready", "another prior"] = job(ROOT, "cifar/byol.yaml", "rela=tiny-grid", "rela.data_ratio=0.1")
    done = dict(zip(jobs, solo.run(*jobs.values()), strict=True))
    for key, outcome in done.items():
        assert outcome.ok, (key, outcome.error)
    # Warnings of imported libraries come before the configuration, whose first key stands at the start of a line.
    starts = {key: re.search(r"^(rela|name):", outcome.output, re.MULTILINE).start() for key, outcome in done.items()}
    return {key: yaml.safe_load(outcome.output[starts[key] :]) for key, outcome in done.items()}


@pytest.mark.solo
@pytest.mark.parametrize("name", READY)
def test_it_composes_with_a_valid_section(composed, name):
    config = composed["ready", name]
    section = parse_rela(config["rela"])
    assert section.data_ratio == 0.2
    assert prior_spec(section.prior).id == "clip-vit-b16"
    assert config["method"] == Path(name).stem
    assert config["data"]["format"] == "image_folder"


@pytest.mark.solo
@pytest.mark.parametrize("name", UPSTREAM)
def test_it_is_solo_learns_own_recipe_otherwise(composed, name):
    ours, theirs = composed["ready", name], composed["upstream", name]
    for key in ("method", "backbone", "method_kwargs", "momentum", "optimizer", "scheduler", "augmentations"):
        assert ours.get(key) == theirs.get(key), key
    for key in ("max_epochs", "devices", "precision", "strategy", "sync_batchnorm", "accumulate_grad_batches"):
        assert ours.get(key) == theirs.get(key), key
    assert ours["data"]["dataset"] == theirs["data"]["dataset"]


@pytest.mark.solo
def test_another_prior_takes_its_place_on_the_command_line(composed):
    section = parse_rela(composed["ready", "another prior"]["rela"])
    assert section.prior == "tiny-grid"
    assert section.data_ratio == 0.1
