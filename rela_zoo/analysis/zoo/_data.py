"""The data sets that a zoo is built on: what they are called, where they are, which of their images are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rela_zoo._io.digest import sample_order
from rela_zoo.data import ImageSource, image_source
from rela_zoo.data.datasets import ImageDataset
from rela_zoo.errors import EmbeddingsError, RegistryError
from rela_zoo.registry import NAME_PATTERN, MeasuredData, PriorSpec, Seen

_TEST_SPLITS = ("test", "validation")
_MINIMUM = 100


class About(BaseModel):
    """A data set in words, and how much of it is used: a YAML file of these fields.

    Attributes:
        name: short; artefacts are named by it.
        title: one line for people.
        note: what a reader must know to compare with other numbers.
        hub_dataset: `org/name` on the Hub.
        seen_as: names under which `training_data` of a registry entry may mention it.
        train_images, test_images: use so many, chosen by a hash of their ids; all by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN, max_length=64)
    title: str = Field(default="", max_length=200)
    note: str = ""
    hub_dataset: str | None = None
    seen_as: tuple[str, ...] = ()
    train_images: int | None = Field(default=None, ge=_MINIMUM)
    test_images: int | None = Field(default=None, ge=20)


@dataclass(frozen=True)
class ZooData:
    """A data set, opened.

    Attributes:
        about: what it is.
        train: images that transports and probes are fitted on.
        test: images to judge by; None where a fifth of `train` has to do.
        argument: how the command line is given it, with DIR for the place of the images.
    """

    about: About
    train: ImageSource
    test: ImageSource | None
    argument: str

    @property
    def parts(self) -> dict[str, ImageSource]:
        """The images to embed, by part."""
        return {"train": self.train, **({} if self.test is None else {"test": self.test})}

    @property
    def images(self) -> int:
        """How many there are to embed."""
        return sum(map(len, self.parts.values()))

    def facts(self) -> MeasuredData:
        """For the results file."""
        judged = len(self.test) if self.test is not None else int(self.judged().sum())
        labelled = len({int(one) for one in self.train.labels or () if one >= 0})
        return MeasuredData(
            name=self.about.name,
            title=self.about.title or f"images named {self.about.name}",
            argument=self.argument,
            note=self.about.note,
            hub_dataset=self.about.hub_dataset,
            train_images=len(self.train),
            test_images=judged,
            test="a fifth of the images" if self.test is None else "a split of its own",
            classes=labelled if labelled > 1 else None,
            train_probe=self.train.probe(),
            test_probe=None if self.test is None else self.test.probe(),
        )

    def judged(self) -> np.ndarray:
        """(N,) bool: of the training images those to judge by where there are no others, a fifth by a hash of ids."""
        ids = self.train.ids
        held = sorted(range(len(ids)), key=lambda i: sample_order(ids[i]))[: len(ids) // 5]
        found = np.zeros(len(ids), bool)
        found[held] = True
        return found


def open_data(given: str) -> ZooData:
    """Open a data set of the command line.

    Args:
        given: `NAME=PATH`, or `FILE.yaml=PATH` with the fields of `About`; the path is whatever `image_source` takes,
            and its splits `train` and `test` (or `validation`) are used where it has them.

    Raises:
        RegistryError: no name, or a malformed description.
        EmbeddingsError: no images there, or too few.
    """
    name, equals, path = given.partition("=")
    if not equals or not path or not name:
        raise RegistryError(
            "a data set is given by its name and its place", expected="NAME=PATH, FILE.yaml=PATH, or digits", got=given
        )
    about = read_about(Path(name).expanduser()) if name.endswith((".yaml", ".yml")) else describe(name)
    train, test = _splits(path)
    return opened(about, train, test, f"{name}=DIR")


def opened(about: About, train: ImageSource, test: ImageSource | None, argument: str) -> ZooData:
    """The data set with no more images than its description wants.

    Args:
        about: its description.
        train, test, argument: as for `ZooData`.

    Raises:
        EmbeddingsError: too few images to measure anything on.
    """
    judged = None if test is None else some(test, about.test_images)
    found = ZooData(about, some(train, about.train_images), judged, argument)
    if len(found.train) < _MINIMUM:
        raise EmbeddingsError(
            f"the {train.describe()} has too few images to measure priors on", expected=f"at least {_MINIMUM}",
            got=len(found.train),
        )  # fmt: skip
    return found


def describe(name: str, **more: Any) -> About:
    """A description by its fields.

    Raises:
        RegistryError: with every mistake.
    """
    try:
        return About(name=name, **more)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise RegistryError(f"{name!r} is no description of a data set", got=said, fix="correct it") from error


def read_about(path: Path) -> About:
    """A description from its file.

    Raises:
        RegistryError: missing or malformed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        name, more = raw.pop("name"), raw
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{path} describes no data set", expected="a YAML file with `name`", got=repr(error)
        ) from error
    return describe(str(name), **more)


def some(source: ImageSource, count: int | None) -> ImageSource:
    """As many images as wanted, chosen by a hash of their ids, whatever order they come in."""
    if count is None or count >= len(source):
        return source
    ids = source.ids
    picks = sorted(sorted(range(len(ids)), key=lambda i: sample_order(ids[i]))[:count])
    from torch.utils.data import Subset

    return image_source(Subset(ImageDataset(source, labelled=False), picks))


def _splits(path: str) -> tuple[ImageSource, ImageSource | None]:
    """The splits to learn from and to judge by; where there are none, everything and nothing."""
    if not Path(path).expanduser().is_dir():  # one file has one split
        return image_source(path), None
    try:
        train = image_source(path, split="train")
    except EmbeddingsError:
        return image_source(path), None
    for name in _TEST_SPLITS:
        try:
            return train, image_source(path, split=name)
        except EmbeddingsError:
            continue
    return train, None


def seen(spec: PriorSpec, names: Sequence[str]) -> Seen:
    """Whether a prior was trained on a data set, as far as its entry says.

    Args:
        spec: the entry.
        names: of the data set in `training_data`; without one nothing is known.

    Examples:
        >>> from rela_zoo import prior_spec
        >>> [seen(prior_spec(one), ["CIFAR-10"]) for one in ("cifar10-resnet20", "cifar100-resnet18", "random")]
        ['labels', 'no', 'no']
    """
    said = spec.training_data.lower()
    if spec.source == "random":
        return "no"
    if not names or not said or said == "not recorded":
        return "unknown"
    # CIFAR-10 is no part of CIFAR-100.
    if not any(re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", said) for name in names):
        return "no"
    return "images" if "no labels" in said else "labels" if "supervised" in said else "images"
