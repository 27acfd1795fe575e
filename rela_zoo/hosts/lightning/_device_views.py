"""Where a run keeps its training images and where it makes their views: `rela.cache` and `rela.views_on`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.device import to_device
from rela_zoo._io.log import logger
from rela_zoo._io.resources import free_memory, free_shared_memory
from rela_zoo._io.text import format_bytes
from rela_zoo.data import image_source
from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.raw import HeldItems, Items, RawBatch, RawItems, changes_when_read_again, hold_items
from rela_zoo.data.read_views import UnreadableViewsError, read_views
from rela_zoo.data.views import Described
from rela_zoo.engine import Accelerator
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.sampler import SubsetSampler, seeded
from rela_zoo.errors import ConfigError, Problem

log = logger(__name__)

# Of the memory that is free, what `cache: auto` may take; and how many images it looks at to know their sizes.
_SHARE, _PROBED = 0.25, 32


# A GPU takes longer to be told of each of some hundred small steps than to take it. So where the images live there,
# views of several batches are made at once: as many as have so many values together, they or their images.
_AT_ONCE = 1 << 24


class DeviceViews:
    """Makes the views of each batch where the network is, as the batch's stage wants them.

    Args:
        described: gives what a module's views of a stage are (0 the accelerated one, 1 the method's own).
        images: (N, 3, H, W) uint8 that are to live on the device, or None if batches bring theirs.
        sampler: gives the one that a module's batches are drawn by.
    """

    def __init__(
        self,
        described: Callable[[Any, int], Described],
        images: Tensor | None = None,
        sampler: Callable[[Any], SubsetSampler] | None = None,
    ) -> None:
        self._described, self._images, self._sampler = described, images, sampler
        self._makers: dict[tuple[int, int], BatchViews] = {}
        # Views that have been made ahead, by seed, epoch, stage and samples of their batch.
        self._ahead: dict[tuple[Any, ...], list[Tensor]] = {}

    def __call__(self, module: Any, batch: Any) -> Any:
        """A batch on the module's device, a `RawBatch` somewhere in it → the same with a list of views instead.

        Args:
            module: has `device` and `dtype`.
            batch: a sequence; as it is without a `RawBatch`.
        """
        if not isinstance(batch, list | tuple):
            return batch
        place = next((at for at, part in enumerate(batch) if isinstance(part, RawBatch)), None)
        if place is None:
            return batch
        made = list(batch)
        made[place] = [view.to(module.dtype) for view in self._views(batch[place], module)]
        return made

    def _views(self, raw: RawBatch, module: Any) -> list[Tensor]:
        if self._ahead and (made := self._ahead.pop(raw.key, None)) is not None:
            return made
        kind, device = (raw.stage, raw.seed), module.device
        if kind not in self._makers:
            self._makers[kind] = BatchViews(*self._described(module, raw.stage), raw.seed)
        make, pixels = self._makers[kind], raw.images()
        if pixels is not None:
            return make(pixels, raw.indices, raw.epoch)
        assert self._images is not None
        self._images = self._images.to(device)
        batches = [raw.indices]
        if self._sampler is not None:
            largest = max(make.values, self._images[0].numel())
            count = _batches_at_once(largest * len(raw.indices), device)
            batches = self._sampler(module).batches_from(raw.indices, raw.epoch, count)
        return self._made(make, raw, batches, device)

    def _made(self, make: BatchViews, raw: RawBatch, batches: list[Tensor], device: torch.device) -> list[Tensor]:
        """The views of the first of these batches; those of the others are kept until they come."""
        assert self._images is not None
        indices = torch.cat(batches)
        views = make(self._images[to_device(indices, device)], indices, raw.epoch)
        each = [list(one) for one in zip(*(view.split(len(raw.indices)) for view in views), strict=True)]
        # A batch that comes in another stage than was foretold is made anew.
        self._ahead = {raw.of(further).key: made for further, made in zip(batches[1:], each[1:], strict=True)}
        return each[0]


def _batches_at_once(values: int, device: torch.device) -> int:
    """Whose views are made together, each having so many values; a CPU's caches have no room for more than one."""
    return 1 if device.type == "cpu" else max(1, _AT_ONCE // values)


class PlacedData(Protocol):
    """What has to be known of the data of a run; `LoaderData` has it."""

    dataset: Any
    owner: Any
    source: Any

    def image_place(self) -> int:
        """Where in an item the image is; raises `UnreadableViewsError` where it can't be left to the device."""
        ...


@dataclass
class Placement:
    """What a run does about `rela.views_on` and `rela.cache`.

    Attributes:
        dataset: to be trained on in place of the data's own; the same one if nothing is to be done.
        num_workers: that its loader needs.
        views: makes the views of batches that come without; None if none do.
        where: of each stage (the accelerated one, the method's own), `device` or `workers`.
        told: for the banner; empty if views are made as always.
    """

    dataset: Any
    num_workers: int
    views: DeviceViews | None = None
    where: tuple[str, str] = ("workers", "workers")
    told: str = ""


def place_images(
    data: PlacedData, accelerator: Accelerator, accelerated: Any, *, num_workers: int, processes: int
) -> Placement:
    """Decide where images are kept and views are made, and read the images if they are to be held.

    Args:
        data: of the run.
        accelerator: of the run.
        accelerated: transform of the accelerated stage, or None for the data set's own.
        num_workers: of the loader.
        processes: of the run, which hold the images each for itself.

    Raises:
        ConfigError: views can't be made on the device, or images not be held, and the configuration insists.
        RelaZooError: the device is to hold images of different sizes.
    """
    config = accelerator.config
    as_always = Placement(data.dataset, num_workers)
    if config.views_on == "workers" and config.cache == "none":
        return as_always
    try:
        place = data.image_place()
    except UnreadableViewsError as error:
        insists = {"views_on": config.views_on == "device", "cache": config.cache in ("memory", "device")}
        if any(insists.values()):
            said = (key for key, one in insists.items() if one)
            raise ConfigError(_refusal(key, getattr(config, key), str(error)) for key in said) from None
        log.info(f"rela_zoo: views are made by the workers: {error}")
        return as_always
    used = (config.accelerates, not config.accelerates or config.handover != 1.0)
    described = (None, None) if config.views_on == "workers" else _described(data, config, accelerated, used)
    stages = (described[0] is not None, described[1] is not None)
    cache = _cache(data, config, accelerator.device, any(stages), processes)
    with seeded(accelerator.seed, 0, 0):  # uses up no chance of the run
        changes = cache != "none" and changes_when_read_again(Items(data.dataset, data.owner, place))
    if changes:
        reason = "items are others when they are read again, and would stay as they were first"
        if config.cache != "auto":
            raise ConfigError([_refusal("cache", config.cache, reason)])
        log.info(f"rela_zoo: no images are held: {reason}")
        cache = "none"
    owner, held = data.owner, None
    made = Placement(data.dataset, num_workers, where=tuple("device" if one else "workers" for one in stages))  # type: ignore[arg-type]
    if cache != "none":
        made.dataset = owner = held = hold_items(Items(data.dataset, owner, place), num_workers=num_workers)
        if cache == "device" and config.cache == "auto" and not held.images.of_one_size:
            cache = "memory"
    if any(stages):
        resident = cache == "device"
        images = held.images.stacked("rela.cache") if held is not None and resident else None
        made.dataset = RawItems(made.dataset, owner, place, stages, resident)
        made.views = DeviceViews(
            lambda _, stage: cast(Described, described[stage]), images, lambda _: accelerator.sampler
        )
        if resident and all(stage or not use for stage, use in zip(stages, used, strict=True)):
            made.num_workers = 0  # there is nothing left for them to do
    made.told = _told(stages, used, accelerator.device, held, cache)
    return made


def _refusal(key: str, value: str, reason: str) -> Problem:
    """That a key insists on what can't be done with these data."""
    instead = {"views_on": "workers", "cache": "none"}[key]
    return Problem(
        f"rela.{key}", f"{instead} for these data", f"{value}: {reason}", f"set rela.{key}={instead}, or auto"
    )


def _described(
    data: PlacedData, config: RelaConfig, accelerated: Any, used: tuple[bool, bool]
) -> tuple[Described | None, Described | None]:
    """Of each stage, what its views are; None where the device can't make them."""
    own, reasons = data.owner.transform, []
    found: list[Described | None] = []
    for name, transform in (("accelerated", accelerated or own), ("method's own", own)):
        reason = ""
        try:
            found.append(read_views(transform))
        except UnreadableViewsError as error:
            found.append(None)
            reason = f"the {name} stage's views have what the device can't make: {error}"
        reasons.append(reason)
    wanted = [reason for reason, use in zip(reasons, used, strict=True) if use]
    if all(wanted) and config.views_on == "device":
        raise ConfigError([_refusal("views_on", "device", wanted[0])])
    for reason in filter(None, wanted):
        log.info(f"rela_zoo: workers go on making views: {reason}")
    return found[0], found[1]


def _cache(data: PlacedData, config: RelaConfig, device: torch.device, on_device: bool, processes: int) -> str:
    """`none`, `memory` or `device`, as asked for, or as fits."""
    if config.cache == "device" and not on_device:
        # With views_on=auto; why it is so has been said.
        raise ConfigError([_refusal("cache", "device", "workers make the views, and can't read what a device holds")])
    if config.cache != "auto":
        return config.cache
    source = image_source(data.source)
    probed = [source.image(int(i)).size for i in np.linspace(0, len(source) - 1, min(_PROBED, len(source)))]
    size = 3 * len(source) * sum(width * height for width, height in probed) / len(probed)
    free, shared = free_memory(), free_shared_memory()
    if free is not None and shared is not None:
        free = min(free, shared)  # where they are held, for workers
    # Twice where the device's own copy lies in the same memory.
    if free is None or size * processes * (2 if on_device and device.type == "cpu" else 1) > _SHARE * free:
        return "none"
    on_gpu = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free
    return "device" if on_device and len(set(probed)) == 1 and size <= _SHARE * on_gpu else "memory"


def _told(stages: Any, used: Any, device: torch.device, held: HeldItems | None, cache: str) -> str:
    """For the banner."""
    names = ("accelerated", "own")
    here = [name for name, stage, use in zip(names, stages, used, strict=True) if use and stage]
    there = [name for name, stage, use in zip(names, stages, used, strict=True) if use and not stage]
    if not here:
        told = "made by the data loader"
    elif not there:
        told = f"made on {device}"
    else:
        told = f"made on {device} in the {here[0]} stage, by the data loader in the {there[0]} one"
    if held is not None:
        where = f"on {device}" if cache == "device" else "in memory"
        told += f"; {len(held):,} decoded images held {where}, {format_bytes(held.images.nbytes)}"
    return told
