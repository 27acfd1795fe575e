"""The callback on a GPU: the samples and losses of a CPU, views by workers and on the device, resumption."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from rela_zoo.data.views import build_views

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
VIEWS = [{"crop_size": tiny.OWN, "num_crops": 2, "horizontal_flip": {"prob": 0.5}}], [0.5] * 3, [0.25] * 3


class Mixed(tiny.Images):
    """Images of several sizes."""

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.data[index][: 5 + index % 3])), self.targets[index]


def _data(kind: type[tiny.Images] = tiny.Images) -> tiny.Images:
    images = kind()
    images.transform = build_views(*VIEWS)
    return images


def _fit(accelerator: str, data: tiny.Images, workers: int = 0, fit: Any = None, **rela: Any) -> tiny.SimCLR:
    module = tiny.SimCLR()
    tiny.fit(module, tiny.rela(**rela), tiny.loader(workers, data), accelerator=accelerator, **(fit or {}))
    return module


def _alike(ours: list[Any], theirs: list[Any]) -> None:
    assert [one[:4] for one in ours] == [one[:4] for one in theirs]
    np.testing.assert_allclose([one[4] for one in ours], [one[4] for one in theirs], rtol=0.02, atol=0.005)


@pytest.mark.parametrize("kind", [tiny.Images, Mixed])
@pytest.mark.parametrize(("cache", "workers"), [("none", 0), ("none", 1), ("memory", 1), ("device", 0), ("auto", 0)])
@pytest.mark.parametrize("views_on", ["device", "workers"])
def test_trains_what_a_cpu_trains(views_on: str, cache: str, workers: int, kind: Any) -> None:
    if cache == "device" and (kind is Mixed or views_on == "workers"):
        pytest.skip("refused on any machine")
    ours, theirs = (_fit(one, _data(kind), workers, views_on=views_on, cache=cache) for one in ("gpu", "cpu"))
    assert ours.stages == ["accelerated"] * 6 + ["own"] * 6
    _alike(ours.seen, theirs.seen)


@pytest.mark.parametrize("more", [{"handover": "plateau"}, {"prior": ["random", "random-test_resnet"]}])
def test_second_stages(more: dict[str, Any]) -> None:
    ours, theirs = (_fit(one, _data(), views_on="device", **more) for one in ("gpu", "cpu"))
    _alike(ours.seen, theirs.seen)


def test_half_precision() -> None:
    ours = _fit("gpu", _data(), views_on="device", cache="device", fit={"precision": "bf16-mixed"})
    assert np.isfinite(ours.losses).all()


@pytest.mark.parametrize("cache", ["none", "device"])
def test_resumed(tmp_path: Any, cache: str) -> None:
    saves = pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    kept = {"callbacks": [saves], "enable_checkpointing": True}
    whole = _fit("gpu", _data(), views_on="device", cache=cache, fit=kept)
    again = _fit("gpu", _data(), views_on="device", cache=cache, fit={"ckpt": tmp_path / "epoch=2.ckpt"})
    _alike(again.seen, [one for one in whole.seen if one[1] > 2])
