"""Defaults and derived values, as solo-learn has them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rela_zoo.hosts.builtin.compose import compose
from rela_zoo.hosts.builtin.config import (
    count_crops,
    count_devices,
    fill_defaults,
    normalisation,
    resolve_config,
    run_digest,
)


@pytest.mark.parametrize(
    ("devices", "accelerator", "count"),
    [
        (1, "cpu", 1), ("1", "cpu", 1), ("02", "cpu", 2), (2, "cpu", 2), ([0], "gpu", 1), ([0, 3], "gpu", 2),
        ("0,1", "gpu", 2), ("2", "gpu", 2),
    ],
)  # fmt: skip
def test_devices(devices: Any, accelerator: str, count: int) -> None:
    assert count_devices(devices, accelerator) == count


@pytest.mark.parametrize("devices", [0, "x", True, None, [], 1.5, "-3"])
def test_bad_devices(devices: Any) -> None:
    with pytest.raises(ValueError):
        count_devices(devices, "cpu")


def test_rates_are_scaled_to_the_batch(config: dict[str, Any]) -> None:
    config["optimizer"].update(lr=0.3, classifier_lr=0.1, batch_size=64)
    config["devices"] = "02"
    without = resolve_config(config, 3)
    assert without.optimizer.lr == pytest.approx(0.3 * 64 * 2 / 256)
    assert without.optimizer.classifier_lr == 0.1
    config["data"]["val_path"] = "somewhere"
    assert resolve_config(config, 3).optimizer.classifier_lr == pytest.approx(0.05)
    assert without.data.num_classes == 3


def test_defaults_leave_what_is_set(config: dict[str, Any]) -> None:
    config["resume_from_checkpoint"] = "None"
    filled = fill_defaults(config)
    assert fill_defaults(filled) == filled
    assert filled.momentum.base_tau == 0.9
    assert filled.momentum.classifier is False
    assert filled.resume_from_checkpoint is None
    assert "num_workers" in config["data"]
    assert "fraction" not in config["data"]
    config["optimizer"].update(name="sgd", kwargs={"nesterov": True})
    assert resolve_config(config, 3).optimizer.kwargs == {"momentum": 0.9, "nesterov": True}


def test_crops() -> None:
    views = [{"crop_size": 32, "num_crops": 1}, {"crop_size": 32, "num_crops": 1}, {"crop_size": 16, "num_crops": 4}]
    assert count_crops(views) == (2, 4)


def test_normalisation(config: dict[str, Any]) -> None:
    assert normalisation(fill_defaults(config))[0] == [0.485, 0.456, 0.406]
    config["augmentations"][0].update(mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5])
    assert normalisation(fill_defaults(config)) == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    config["data"]["dataset"] = "cifar10"
    assert normalisation(fill_defaults(config))[0] == [0.4914, 0.4822, 0.4465]


@pytest.mark.parametrize(
    ("name", "more", "digest"),
    [
        ("byol", [], "acc3542e00bb"),
        ("dino", ["rela=cf10", "rela.power=1.0", "rela.head=frozen", "max_epochs=7"], "cff029fb5092"),
    ],
)
def test_the_folder_of_a_run_never_changes(name: str, more: list[str], digest: str) -> None:
    # Golden: an interrupted run is found again by a later version, since sizes were left to the data too.
    assert run_digest(compose(name, None, ["image_size=32", "data.train_path=images", *more])) == digest


def test_digest_holds_what_changes_the_numbers_and_nothing_else(config: dict[str, Any]) -> None:
    digest = run_digest(config)
    assert len(digest) == 12
    same, other = copy.deepcopy(config), copy.deepcopy(config)
    same["data"]["num_workers"] = 7
    same["checkpoint"] = {"enabled": False, "dir": "/elsewhere"}
    same["auto_resume"] = {"enabled": True}
    same["knn_eval"] = {"enabled": False}
    assert run_digest(same) == digest
    changes = (("optimizer", "lr", 0.1), ("data", "train_path", "x"), (None, "seed", 9), (None, "rela", {}))
    for section, key, value in changes:
        changed = copy.deepcopy(other)
        (changed if section is None else changed[section])[key] = value
        assert run_digest(changed) != digest, key
