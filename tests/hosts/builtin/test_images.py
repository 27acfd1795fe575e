"""`data.cache` and `data.views_on`: where images are kept changes nothing, where views are made only chance."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.views import RELA_VIEW
from rela_zoo.errors import ConfigError, RelaZooError
from rela_zoo.hosts.builtin.config import NORMALISATION, run_digest
from rela_zoo.hosts.builtin.train import TrainResult, train
from rela_zoo.hosts.lightning import _device_views

IMAGENET = NORMALISATION["imagenet"]


class Seen(Callback):
    """What the method is given: (epoch, indices, views)."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, torch.Tensor, list[torch.Tensor]]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append((trainer.current_epoch, batch[0], batch[1]))


def trained(config: dict[str, Any], *callbacks: Callback, **data: Any) -> TrainResult:
    config = copy.deepcopy(config)
    config["data"].update(data)
    return train(config, callbacks=callbacks)


def weights(result: TrainResult) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in result.method.state_dict().values()])


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_memory_give_the_same_training(config: dict[str, Any], workers: int) -> None:
    config["checkpoint"]["enabled"] = False
    plain = trained(config)
    held = trained(config, cache="memory", num_workers=workers)
    assert torch.equal(weights(plain), weights(held))


def test_views_of_the_device_are_the_same_wherever_images_are_kept(config: dict[str, Any]) -> None:
    config["checkpoint"]["enabled"] = False
    seen = Seen()
    first = trained(config, seen, views_on="device")
    assert len(seen.batches) == 6
    for _, indices, views in seen.batches:
        assert [view.shape for view in views] == [(8, 3, 16, 16)] * 2
        assert not torch.equal(views[0], views[1])
        assert indices.dtype == torch.int64
    for data in ({"cache": "memory", "num_workers": 2}, {"cache": "device", "num_workers": 2}):
        assert torch.equal(weights(first), weights(trained(config, views_on="device", **data)))


@pytest.mark.parametrize("cache", ["none", "device"])
def test_each_stage_has_its_own_views(config: dict[str, Any], folders: Path, cache: str) -> None:
    from rela_zoo.data.datasets import open_dataset

    config["rela"] = {"prior": "random", "data_ratio": 0.7, "handover": 0.5, "seed": 11}
    config["checkpoint"]["enabled"] = False
    seen = Seen()
    trained(config, seen, views_on="device", cache=cache)
    data = {"dataset": "custom", "format": "image_folder", "no_labels": False, "train_path": folders / "train"}
    images = open_dataset(data, "train")
    accelerated = BatchViews([{**RELA_VIEW, "crop_size": 16, "num_crops": 2}], *IMAGENET, seed=11)
    own = BatchViews(config["augmentations"], *IMAGENET, seed=11)
    assert [epoch for epoch, _, _ in seen.batches] == [0, 0, 1, 1]
    for epoch, indices, views in seen.batches:
        arrays = np.stack([np.asarray(images.source.image(int(i))) for i in indices])
        pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2)
        for mine, expected in zip(views, (accelerated, own)[epoch](pixels, indices, epoch), strict=True):
            assert torch.equal(mine, expected)


def test_views_of_several_batches_at_once(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config["checkpoint"]["enabled"] = False
    config["max_epochs"] = 2
    wanted = weights(trained(config, views_on="device", cache="device"))
    monkeypatch.setattr(_device_views, "_batches_at_once", lambda values, device: 2)
    assert torch.equal(wanted, weights(trained(config, views_on="device", cache="device")))
    config["rela"] = {"prior": "random", "handover": 0.5, "data_ratio": 0.7}
    together = weights(trained(config, views_on="device", cache="device"))
    monkeypatch.undo()
    assert torch.equal(together, weights(trained(config, views_on="device", cache="device")))


def test_a_resumed_run_is_the_same_run(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config["data"].update(views_on="device", cache="device")
    config["max_epochs"] = 3
    config["checkpoint"]["keep_prev"] = True
    whole = train(config)
    again = copy.deepcopy(config)
    again["checkpoint"]["dir"] = str(tmp_path / "again")
    again["resume_from_checkpoint"] = str(whole.folder / "test-ep=0.ckpt")
    again["data"].update(cache="none", num_workers=2)
    assert torch.equal(weights(whole), weights(train(again)))


def test_small_crops(config: dict[str, Any], make_view: Any) -> None:
    config.update(method="swav", method_kwargs={"num_prototypes": 8}, max_epochs=1)
    config["backbone"]["kwargs"]["dynamic_img_size"] = True
    config["augmentations"] = [make_view(16, 2), make_view(8, 3)]
    seen = Seen()
    trained(config, seen, views_on="device")
    assert [view.shape[-1] for view in seen.batches[0][2]] == [16, 16, 8, 8, 8]


def test_validation_is_left_alone(config: dict[str, Any], folders: Path) -> None:
    config["checkpoint"]["enabled"] = False
    result = trained(config, views_on="device", cache="device", val_path=str(folders / "val"))
    assert "val_acc1" in result.history[-1]


def test_images_of_several_sizes(config: dict[str, Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for i in range(8):
            pixels = generator.integers(0, 255, (20 + i, 30 - i, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mixed" / name / f"{i}.png")
    config["checkpoint"]["enabled"] = False
    config["data"]["train_path"] = str(tmp_path / "mixed")
    results = [trained(config, views_on="device", cache=cache) for cache in ("none", "memory")]
    assert torch.equal(weights(results[0]), weights(results[1]))
    with pytest.raises(RelaZooError, match=r"data\.cache=memory"):
        trained(config, views_on="device", cache="device")


def test_bad_choices_are_told(config: dict[str, Any]) -> None:
    for data, expected in (
        ({"cache": "gpu"}, r"data\.cache"),
        ({"views_on": "gpu"}, r"data\.views_on"),
        ({"cache": "device"}, r"set data\.views_on=device"),
    ):
        with pytest.raises(ConfigError, match=expected):
            trained(config, **data)


def test_what_names_a_run(config: dict[str, Any]) -> None:
    """Where images are kept is no part of it, where views are made is; runs from before the choice keep their names."""

    def named(**data: Any) -> str:
        return run_digest({**config, "data": {**config["data"], "train_path": "images", **data}})

    config["checkpoint"] = {}
    assert named() == "f02c85a3c364"
    assert named(cache="memory") == named(views_on="workers") == named()
    assert named(views_on="device") == named(views_on="device", cache="device") != named()
