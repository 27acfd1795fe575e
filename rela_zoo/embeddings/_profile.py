"""Where the time of an extraction goes: milliseconds an image of each stage, what binds, what to change."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

from rela_zoo._io.resources import usable_cores

_IDLE = 0.1  # of the time spent waiting, from which on the model is not what binds


@dataclass
class Profile:
    """What `embed` measures where one is given to it; seconds in all unless said otherwise.

    Attributes:
        images: embedded, this time.
        wall: from the first batch asked for to the last shard written.
        decode, resize: in all processes that decode: reading and decoding, resizing and cropping.
        copy, model, write: to the device and back, what is done there (a GPU resizes, too), hashing and writing shards.
        starved: that the model had to wait for images, after the first batch.
        blocked: that it had to wait for the disk.
        limit: images a second of the model alone, on a batch that is on the device; None if not measured.
        num_workers, batch_size, device, precision: as they were chosen.
        compiling: that compiling the prior took, a part of `wall` alone; 0 if that failed, None if nobody tried.

    Examples:
        >>> from rela_zoo import embed
        >>> from rela_zoo.embeddings import Profile
        >>> profile = Profile()
        >>> table = embed("cifar10-resnet20", "photos", "rows", profile=profile)
        >>> profile.images, profile.binds() in ("model", "decode", "resize", "copy", "write")
        (240, True)
    """

    images: int = 0
    wall: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    copy: float = 0.0
    model: float = 0.0
    write: float = 0.0
    starved: float = 0.0
    blocked: float = 0.0
    limit: float | None = None
    num_workers: int = 0
    batch_size: int = 0
    device: str = "cpu"
    precision: str = "32"
    compiling: float | None = None

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / max(self.wall, 1e-9)

    @property
    def share(self) -> float | None:
        """Of the model's own limit that was reached, at most 1; None if that was not measured."""
        return None if self.limit is None else min(1.0, self.rate / self.limit)

    def milliseconds(self) -> dict[str, float]:
        """An image, of each stage."""
        names = ("decode", "resize", "copy", "model", "write")
        return {name: 1e3 * getattr(self, name) / max(self.images, 1) for name in names}

    def binds(self) -> str:
        """The stage that sets the pace: decode, resize, copy, model or write."""
        if self.starved > _IDLE * self.wall and self.starved >= self.blocked:
            return "decode" if self.decode >= self.resize else "resize"
        if self.blocked > _IDLE * self.wall:
            return "write"
        # A short run waits for the first batches, and for no others.
        if self.num_workers and (self.decode + self.resize) / self.num_workers > self.copy + self.model:
            return "decode" if self.decode >= self.resize else "resize"
        return "copy" if self.copy > self.model else "model"

    def advice(self) -> str:
        """What would make it faster."""
        stage, cores = self.binds(), usable_cores()
        if stage in ("decode", "resize"):
            if self.num_workers < cores and cores > 1:
                # As many as keep up with the model.
                needed = (self.decode + self.resize) / max(self.model + self.copy, 1e-9)
                enough = max(self.num_workers + 1, min(cores, math.ceil(needed)))
                return f"more processes that decode: --workers {enough}"
            if self.device.startswith("cuda") and importlib.util.find_spec("simplejpeg") is None:
                return "JPEG files, if these are any, decode faster with simplejpeg: pip install simplejpeg"
            return "more cores, or images that are stored smaller: resized once to little more than the prior's input"
        if stage == "write":
            return "a faster disk for the rows"
        if stage == "copy":
            return "larger batches: --batch-size"
        if not self.device.startswith("cpu"):
            return (
                "--precision bf16, if its rows are near enough" if self.precision == "32" else "nothing: a faster GPU"
            )
        compiled = "" if self.compiling is not None else "--compile, for many more images than these; "
        return f"{compiled}a GPU, or a smaller prior; NAME@SIZE feeds a prior smaller images"

    def table(self) -> str:
        """The lines that `rela-zoo embed --profile` prints."""
        if not self.images:
            return "nothing was embedded: the rows were there already"
        compiled = f", compiled in {self.compiling:.1f} s" if self.compiling else ""
        reached = "" if self.limit is None else f", {self.share:.0%} of the model's own {self.limit:,.1f}"
        where = {
            "decode": f"in {self.num_workers} processes" if self.num_workers else "in this process",
            "copy": f"batches of {self.batch_size}",
            "model": f"{self.device}, precision {self.precision}{compiled}",
            "write": "in a thread",
        }
        where["resize"] = where["decode"]
        lines = [
            f"{self.images:,} images in {self.wall:,.1f} s: {self.rate:,.1f} images/s{reached}",
            f"{'stage':<8}{'ms an image':>12}  where",
            *(f"{name:<8}{value:>12.3f}  {where[name]}" for name, value in self.milliseconds().items()),
            f"what binds: {self.binds()} (the model waited {self.starved / max(self.wall, 1e-9):.0%} of the time for "
            f"images, {self.blocked / max(self.wall, 1e-9):.0%} for the disk)",
            f"faster by:  {self.advice()}",
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "images": self.images,
            "seconds": round(self.wall, 3),
            "images_per_second": round(self.rate, 2),
            "limit_images_per_second": None if self.limit is None else round(self.limit, 2),
            "ms_an_image": {name: round(value, 4) for name, value in self.milliseconds().items()},
            "starved": round(self.starved / max(self.wall, 1e-9), 4),
            "blocked": round(self.blocked / max(self.wall, 1e-9), 4),
            "binds": self.binds() if self.images else None,
            "advice": self.advice() if self.images else None,
            "num_workers": self.num_workers,
            "batch_size": self.batch_size,
            "device": self.device,
            "precision": self.precision,
            "compile_seconds": None if self.compiling is None else round(self.compiling, 3),
        }
