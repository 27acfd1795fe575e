"""`rela.views_on` and `rela.cache` with the callback: any module, a data set of items (image, …)."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch.utils.data import Subset, default_collate

from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.views import RELA_VIEW, build_views
from rela_zoo.errors import ConfigError
from rela_zoo.hosts.lightning import _device_views

STATISTICS = ([0.5] * 3, [0.25] * 3)
MILDER = [{**RELA_VIEW, "crop_size": tiny.MILD, "num_crops": 2}]
OWN = [{"crop_size": tiny.OWN, "num_crops": 2, "horizontal_flip": {"prob": 0.5}}]


class Seeing(tiny.SimCLR):
    """Keeps the views of each batch."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.views: list[Any] = []

    def note(self, stage: str, batch: Any, loss: torch.Tensor) -> torch.Tensor:
        self.views.append(batch[0])
        return super().note(stage, batch, loss)


def _readable() -> tiny.Images:
    images = tiny.Images()
    images.transform = build_views(OWN, *STATISTICS)
    return images


def _expected(stage: str, epoch: int, samples: list[int], which: list[int]) -> list[torch.Tensor]:
    maker = BatchViews(MILDER if stage == "accelerated" else OWN, *STATISTICS, seed=0)
    pixels = torch.from_numpy(np.stack([tiny.Images().data[i] for i in samples])).permute(0, 3, 1, 2)
    return maker(pixels, torch.tensor(which), epoch)


@pytest.mark.parametrize(("cache", "workers"), [("none", 0), ("none", 1), ("memory", 1), ("device", 0), ("auto", 0)])
def test_both_stages(cache: str, workers: int, said: Any) -> None:
    module, images = Seeing(), _readable()
    own = images.transform
    tiny.fit(module, tiny.rela(views_on="device", cache=cache), tiny.loader(workers, images))
    assert module.stages == ["accelerated"] * 6 + ["own"] * 6
    for (stage, epoch, samples, _, _), views in zip(module.seen, module.views, strict=True):
        for mine, expected in zip(views, _expected(stage, epoch, samples, samples), strict=True):
            assert torch.equal(mine, expected)
    assert "views   made on cpu" in str(said)
    assert images.transform is own
    assert set(vars(module)).isdisjoint({"on_before_batch_transfer", "on_after_batch_transfer"})


@pytest.mark.parametrize("handover_at", ["epoch", "step"])
def test_of_several_batches_at_once(handover_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the same views to the bit, in few calls, also where the stage changes among the batches foretold."""
    made: list[int] = []
    whole = BatchViews.__call__

    def counted(self: BatchViews, pixels: Any, indices: torch.Tensor, epoch: int) -> list[torch.Tensor]:
        made.append(len(indices))
        return whole(self, pixels, indices, epoch)

    monkeypatch.setattr(BatchViews, "__call__", counted)
    options = {"views_on": "device", "cache": "device", "handover_at": handover_at, "handover": 0.4}
    seen = []
    for count in (1, 2, 100):
        monkeypatch.setattr(_device_views, "_batches_at_once", lambda values, device, count=count: count)
        made.clear()
        module = Seeing()
        tiny.fit(module, tiny.rela(**options), tiny.loader(data=_readable()))
        seen.append(module)
        calls = len(made)
        assert calls == len(module.seen) if count == 1 else calls < len(module.seen)
        assert count == 1 or max(made) > len(module.seen[0][2])
    assert {stage for stage, *_ in seen[0].seen} == {"accelerated", "own"}
    for module in seen[1:]:
        assert module.losses == seen[0].losses
        for mine, theirs in zip(module.views, seen[0].views, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_from_a_data_module_with_hooks_of_its_own() -> None:
    class Data(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return tiny.loader(data=_readable())

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            views, which = batch
            return [2 * view for view in views], which

    module = Seeing()
    tiny.fit(module, tiny.rela(views_on="device"), Data())
    for (stage, epoch, samples, _, _), views in zip(module.seen, module.views, strict=True):
        expected = _expected(stage, epoch, samples, samples)
        assert all(torch.equal(mine, 2 * theirs) for mine, theirs in zip(views, expected, strict=True))


def test_images_in_memory_and_views_by_workers_is_the_same_training(said: Any) -> None:
    losses = []
    for cache in ("none", "memory"):
        module = tiny.SimCLR()
        tiny.fit(module, tiny.rela(cache=cache), tiny.loader())
        losses.append(module.losses)
    assert losses[0] == losses[1]
    assert "views   made by the data loader; 24 decoded images held in memory, 4.6 kB" in str(said)


def test_an_own_transform_that_is_not_known_stays_with_the_workers(said: Any) -> None:
    mixed, plain = Seeing(), Seeing()
    tiny.fit(mixed, tiny.rela(views_on="device"), tiny.loader())
    tiny.fit(plain, tiny.rela(), tiny.loader())
    assert "workers go on making views: the method's own stage's views have what the device can't make: Twice" in str(
        said
    )
    for (stage, epoch, samples, _, _), views, others in zip(mixed.seen, mixed.views, plain.views, strict=True):
        if stage == "own":
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(views, others, strict=True))
        else:
            expected = _expected(stage, epoch, samples, samples)
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(views, expected, strict=True))


def test_a_part_of_a_data_set() -> None:
    module, which = Seeing(), [*range(3, 24)]
    tiny.fit(module, tiny.rela(views_on="device", data_ratio=0.6), tiny.loader(data=Subset(_readable(), which)))
    for (stage, epoch, samples, _, _), views in zip(module.seen, module.views, strict=True):
        expected = _expected(stage, epoch, samples, [i - 3 for i in samples])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(views, expected, strict=True))


@pytest.mark.parametrize("epoch", [1, 3])
def test_resumed_bit_for_bit(tmp_path: Any, epoch: int) -> None:
    saves = pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    whole = tiny.SimCLR()
    tiny.fit(
        whole, tiny.rela(views_on="device"), tiny.loader(data=_readable()), callbacks=[saves], enable_checkpointing=True
    )
    again, callback = tiny.SimCLR(), tiny.rela(views_on="device", cache="device")
    tiny.fit(again, callback, tiny.loader(data=_readable()), ckpt=tmp_path / f"epoch={epoch - 1}.ckpt")
    assert again.seen == [one for one in whole.seen if one[1] >= epoch]
    mine, theirs = again.state_dict(), whole.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_what_cannot_be_done_is_refused_or_said(said: Any) -> None:
    def collate(items: Any) -> Any:
        return default_collate(items)

    with pytest.raises(ConfigError, match=r"rela\.views_on.*collate_fn"):
        tiny.fit(tiny.SimCLR(), tiny.rela(views_on="device"), tiny.loader(collate_fn=collate))
    with pytest.raises(ConfigError, match=r"rela\.cache.*collate_fn"):
        tiny.fit(tiny.SimCLR(), tiny.rela(cache="memory"), tiny.loader(collate_fn=collate))
    module, plain = tiny.SimCLR(), tiny.SimCLR()
    tiny.fit(module, tiny.rela(views_on="auto", cache="auto"), tiny.loader(collate_fn=collate))
    assert "views are made by the workers: the DataLoader has a collate_fn of its own" in str(said)
    tiny.fit(plain, tiny.rela(), tiny.loader())
    assert module.losses == plain.losses


@pytest.mark.parametrize("workers", [0, 1])
def test_where_images_are_held_moves_no_handover(workers: int) -> None:
    """Also inside an epoch, where batches on their way count: a device that holds the images needs no workers."""
    seen = []
    for cache in ("none", "memory", "device", "auto"):
        module = tiny.SimCLR()
        rela = tiny.rela(views_on="device", cache=cache, handover_at="step", handover=0.2, data_ratio=1.0)
        tiny.fit(module, rela, tiny.loader(workers, _readable()))
        seen.append(module.seen)
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert {"accelerated", "own"} == {one[0] for one in seen[0]}


class Alpha(tiny.Images):
    """Images with an alpha channel, which its transform puts on white."""

    def __getitem__(self, index: int) -> Any:
        picture = Image.fromarray(self.data[index]).convert("RGBA")
        picture.putalpha(128)
        return self.transform(picture), self.targets[index]


class Turned(tiny.Images):
    """Turned by chance before the transform."""

    def __getitem__(self, index: int) -> Any:
        turned = np.rot90(self.data[index], int(torch.randint(4, ()))).copy()
        return self.transform(Image.fromarray(turned)), self.targets[index]


class OnWhite:
    def __init__(self, then: Any) -> None:
        self.then = then

    def __call__(self, picture: Any) -> Any:
        if picture.mode != "RGBA":
            return self.then(picture)
        white = Image.new("RGBA", picture.size, "white")
        return self.then(Image.alpha_composite(white, picture).convert("RGB"))


@pytest.mark.parametrize(("data", "reason"), [(Alpha, "mode RGBA"), (Turned, "others when they are read again")])
def test_what_holding_would_change_is_not_held(data: Any, reason: str, said: Any) -> None:
    def fitted(**more: Any) -> Any:
        module, images = tiny.SimCLR(), data()
        if data is Alpha:
            images.transform = OnWhite(images.transform)
        tiny.fit(module, tiny.rela(augmentations="method", **more), tiny.loader(data=images))
        return module.losses

    plain = fitted()
    assert fitted(cache="auto") == plain
    assert reason in str(said)
    with pytest.raises(ConfigError, match=rf"rela\.cache[\s\S]*{reason}"):
        fitted(cache="memory")


def test_a_transform_that_is_not_applied_is_found_out() -> None:
    class AtFirst(tiny.Images):
        def __init__(self) -> None:
            super().__init__()
            self.transforms = self.transform

        def __getitem__(self, index: int) -> Any:
            return self.transforms(Image.fromarray(self.data[index])), self.targets[index]

    with pytest.raises(ConfigError, match="AtFirst, which does not"):
        tiny.fit(tiny.SimCLR(), tiny.rela(), tiny.loader(data=AtFirst()))


def test_looking_at_items_uses_up_no_chance() -> None:
    """The training draws on from where the module's own chance has left off."""
    drawn = []

    class Drawing(tiny.SimCLR):
        def on_fit_start(self) -> None:
            drawn.append((float(torch.rand(())), float(np.random.rand())))

    for data in (tiny.Images, Turned):
        for more in ({}, {"views_on": "auto", "cache": "auto"}):
            torch.manual_seed(1)
            np.random.seed(1)
            tiny.fit(Drawing(), tiny.rela(**more), tiny.loader(data=data()), max_epochs=2)
    assert len(set(drawn)) == 1


@pytest.mark.parametrize("hook", ["on_before_batch_transfer", "transfer_batch_to_device"])
def test_hooks_that_see_batches_before_their_views(hook: str, said: Any) -> None:
    def look(self: Any, batch: Any, *more: Any) -> Any:
        views, which = batch
        return [view.to(self.device) for view in views], which

    hooked = type("Hooked", (tiny.SimCLR,), {hook: look})
    with pytest.raises(ConfigError, match=f"Hooked.{hook} is given batches"):
        tiny.fit(hooked(), tiny.rela(views_on="device"), tiny.loader(data=_readable()))
    module, plain = hooked(), tiny.SimCLR()
    tiny.fit(module, tiny.rela(views_on="auto"), tiny.loader(data=_readable()))
    tiny.fit(plain, tiny.rela(), tiny.loader(data=_readable()))
    assert module.losses == plain.losses


def test_images_of_several_sizes() -> None:
    class Mixed(tiny.Images):
        def __init__(self) -> None:
            super().__init__()
            self.source_images = [np.ascontiguousarray(one[: 5 + i % 3]) for i, one in enumerate(self.data)]
            self.transform = build_views(OWN, *STATISTICS)

        def __getitem__(self, index: int) -> Any:
            return self.transform(Image.fromarray(self.source_images[index])), self.targets[index]

    losses = []
    for cache in ("none", "memory", "auto"):
        module = tiny.SimCLR()
        tiny.fit(module, tiny.rela(views_on="device", cache=cache), tiny.loader(data=copy.deepcopy(Mixed())))
        losses.append(module.losses)
    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(Exception, match=r"rela\.cache=memory"):
        tiny.fit(tiny.SimCLR(), tiny.rela(views_on="device", cache="device"), tiny.loader(data=Mixed()))
