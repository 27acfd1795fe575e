"""Sizes that are left to the data, and the stem that fits them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rela_zoo.data import image_source
from rela_zoo.errors import ConfigError
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.compose import compose
from rela_zoo.hosts.builtin.config import fill_defaults, run_digest
from rela_zoo.hosts.builtin.sizes import half_size, suitable_size, typical_size
from rela_zoo.hosts.builtin.train import initial_method, train


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    for number, (width, height) in enumerate(sizes):
        (folder / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), number, np.uint8)).save(folder / "a" / f"{number:03d}.png")
    return folder


def test_suitable_sizes() -> None:
    sides = [(32, 32), (28, 28), (8, 8), (64, 64), (100, 96), (640, 480), (480, 640), (223, 500), (4000, 3000)]
    assert [suitable_size(*one) for one in sides] == [32, 32, 32, 64, 96, 224, 224, 192, 224]
    assert [half_size(one) for one in (32, 64, 96, 192, 224)] == [16, 32, 48, 96, 112]


def test_the_typical_size_is_the_middle_one(tmp_path: Path) -> None:
    folder = write_images(tmp_path, [(40, 30)] * 5 + [(64, 48)] * 6 + [(300, 200)] * 4)
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    assert typical_size(image_source(str(folder))) == (64, 48)


def overrides(path: Path, *more: str) -> list[str]:
    return [f"data.train_path={path}", "optimizer.batch_size=4", "accelerator=cpu", "checkpoint.enabled=false", *more]


def sizes_and_stem(name: str, path: Path, *more: str) -> tuple[list[int], str | None]:
    config = check(compose(name, None, overrides(path, *more))).config
    return [view["crop_size"] for view in config["augmentations"]], config["backbone"].get("stem")


def test_sizes_and_stem_come_from_the_data(tmp_path: Path) -> None:
    small, tiny = write_images(tmp_path / "s", [(32, 32)] * 8), write_images(tmp_path / "t", [(70, 66)] * 8)
    photos = write_images(tmp_path / "p", [(320, 240)] * 8)
    assert sizes_and_stem("byol", small) == ([32, 32], "cifar")
    assert sizes_and_stem("byol", tiny) == ([64, 64], "cifar")
    assert sizes_and_stem("byol", photos) == ([224, 224], "imagenet")
    assert sizes_and_stem("swav", photos, "augmentations=multicrop") == ([224, 112], "imagenet")


def test_what_is_said_wins(tmp_path: Path) -> None:
    photos = write_images(tmp_path, [(320, 240)] * 8)
    assert sizes_and_stem("byol", photos, "image_size=96") == ([96, 96], "imagenet")
    assert sizes_and_stem("byol", photos, "image_size=32") == ([32, 32], "cifar")
    assert sizes_and_stem("byol", photos, "image_size=32", "backbone.stem=imagenet") == ([32, 32], "imagenet")
    assert sizes_and_stem("byol", photos, "backbone.stem=cifar") == ([224, 224], "cifar")
    # Sizes in the views alone: as ever, without a word about the stem.
    explicit = [f"augmentations.{i}.crop_size=32" for i in (0, 1)]
    assert sizes_and_stem("byol", photos, *explicit) == ([32, 32], None)
    assert sizes_and_stem("demo", photos) == ([32], None)
    with pytest.raises(ConfigError, match="image_size: expected the crop_size of the large views"):
        sizes_and_stem("byol", photos, *explicit, "image_size=64")


def test_the_stem_is_built(tmp_path: Path) -> None:
    small = write_images(tmp_path, [(32, 32)] * 8)
    for stem, side in (("cifar", 3), ("imagenet", 7)):
        method: Any = initial_method(compose("simclr", None, overrides(small, f"backbone.stem={stem}")))
        assert method.backbone.conv1.kernel_size == (side, side)


def test_wrong_values_are_named(config: dict[str, Any]) -> None:
    config |= {"image_size": "large"}
    config["backbone"]["stem"] = "cifar"
    config["augmentations"][0]["crop_size"] = "third"
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert {one.key for one in caught.value.problems} == {
        "image_size",
        "backbone.stem",
        "augmentations.0.crop_size",
    }
    assert "expected an integer ≥ 1, auto or half, got 'third'" in str(caught.value)


def test_a_size_that_suits_the_data_reaches_views_network_and_checkpoint(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    config["backbone"] = {"name": "resnet18"}
    config["augmentations"][0]["crop_size"] = "auto"
    config["max_epochs"] = 1
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        result = train(config)
    text = "images: 24×24, trained on at 32 px (from the data; image_size=… sets it); resnet18 with a 3×3 stem"
    assert any(one.startswith(text) for one in caplog.messages), caplog.messages
    seen = result.method.cfg.augmentations
    assert seen[0].crop_size == 32
    assert result.method.backbone.conv1.kernel_size == (3, 3)  # type: ignore[union-attr]
    from rela_zoo.prior.trained_backbone import read_backbone

    assert result.checkpoint is not None
    trained: Any = read_backbone(result.checkpoint)
    assert trained.network.conv1.kernel_size == (3, 3)


def test_names_of_runs_stay(config: dict[str, Any]) -> None:
    digest = run_digest(config)
    assert run_digest({**config, "image_size": "auto"}) == digest
    assert run_digest(fill_defaults(config)) == digest
    resnet = {**config, "backbone": {"name": "resnet18", "kwargs": {}}}
    digests = {
        stem: run_digest({**resnet, "backbone": {**resnet["backbone"], "stem": stem}})
        for stem in (None, "imagenet", "cifar")
    }
    assert digests[None] == digests["imagenet"] == run_digest(resnet)
    assert digests["cifar"] != digests[None]
