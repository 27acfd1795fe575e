"""What the plugin refuses in a configuration, without solo-learn."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from rela_zoo.hosts.solo_learn._check import check_config


def _config(**changes: Any) -> Any:
    base = {
        "method": "byol",
        "data": {"dataset": "custom", "format": "image_folder", "fraction": -1},
        "optimizer": {"batch_size": 256},
        "rela": {"data_ratio": 0.2},
    }
    return OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(changes))


def test_an_ordinary_configuration_has_no_problem():
    assert check_config(_config()) == []


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"data": {"format": "dali"}}, ["dali.encode_indexes_into_labels"]),
        (
            {"data": {"format": "dali"}, "dali": {"encode_indexes_into_labels": False}},
            ["dali.encode_indexes_into_labels"],
        ),
        (
            {
                "data": {"format": "dali"},
                "dali": {"encode_indexes_into_labels": True},
                "rela": {"views_on": "device", "cache": "memory"},
            },
            ["rela.views_on", "rela.cache"],
        ),
        ({"data": {"dataset": "cifar10", "fraction": 0.5}}, ["data.fraction"]),
        ({"data": {"dataset": "stl10", "fraction": 0.5}}, ["data.fraction"]),
        ({"data": {"dataset": "imagenet", "format": "h5", "fraction": 0.5}}, ["data.fraction"]),
        ({"data": {"format": "h5"}}, ["data.format"]),
        ({"method": "deepclusterv2"}, ["rela.data_ratio"]),
        ({"method": "deepclusterv2", "rela": {"data_ratio": 1.0, "handover_at": "step"}}, ["rela.handover_at"]),
        ({"method": "wmse", "method_kwargs": {"whitening_size": 100}}, ["method_kwargs.whitening_size"]),
        (
            {"method": "deepclusterv2", "data": {"dataset": "cifar100", "fraction": 0.1}},
            ["data.fraction", "rela.data_ratio"],
        ),
    ],
)
def test_every_problem_is_named_by_its_key_and_says_how_to_mend_it(changes, keys):
    problems = check_config(_config(**changes))
    assert [problem.key for problem in problems] == keys
    assert all(problem.expected and problem.got and problem.fix for problem in problems)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"fraction": 0.5}},
        {"rela": {"views_on": "device", "cache": "auto"}},
        {
            "data": {"format": "dali"},
            "dali": {"encode_indexes_into_labels": True},
            "rela": {"views_on": "auto", "cache": "none"},
        },
        {"data": {"dataset": "imagenet", "format": "h5"}},
        {"method": "deepclusterv2", "rela": {"data_ratio": 1.0}},
        {"method": "wmse", "method_kwargs": {"whitening_size": 128}},
    ],
)
def test_what_works_is_let_through(changes):
    assert check_config(_config(**changes)) == []


@pytest.mark.parametrize(("version", "count"), [("0.11.4", 0), ("1.0.0", 1), ("1.9.0", 1)])
def test_k_nn_needs_an_older_torchmetrics(monkeypatch, version, count):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    problems = check_config(_config(knn_eval={"enabled": True}))
    assert [problem.key for problem in problems] == ["knn_eval.enabled"] * count
