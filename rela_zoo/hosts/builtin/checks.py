"""Check a whole configuration before anything is trained, and report every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from rela_zoo._io.log import logger
from rela_zoo._io.text import did_you_mean
from rela_zoo._io.validation import placed, validate
from rela_zoo.data import undecodable
from rela_zoo.data.datasets import DataProblem, ImageDataset, open_dataset
from rela_zoo.engine import RelaPlan, left_out_of
from rela_zoo.errors import ConfigError, EmbeddingsError, HubError, Problem
from rela_zoo.hosts.builtin._loggers import missing_packages
from rela_zoo.hosts.builtin._surroundings import (
    launcher,
    method_values,
    missing_checkpoint,
    places,
    trainer_values,
)
from rela_zoo.hosts.builtin.config import as_plain, count_devices, fill_defaults
from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.schema import HostConfig
from rela_zoo.hosts.builtin.sizes import AUTO, contradictions, leaves_size_open, suitable_size, typical_size, with_size
from rela_zoo.networks.backbones import build_backbone, is_backbone
from rela_zoo.networks.names import backbone_names

log = logger(__name__)


class Checked(NamedTuple):
    """What a check leaves behind, so that nothing is looked up twice: opened data sets, the plan of `rela`, sizes."""

    train: ImageDataset
    val: ImageDataset | None
    plan: RelaPlan | None
    # What the user wrote, plain, with the sizes of views and the stem in place.
    config: dict[str, Any]
    # Width and height of the training images.
    typical: tuple[int, int]


def _is_too_deep(key: str, value: Any) -> bool:
    return isinstance(value, int) and value > 1000 and any(part in key for part in ("depth", "layers", "blocks"))


class _Check:
    """Collects the problems of one configuration."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given: dict[str, Any] = {**given}
        self.problems: list[Problem] = []
        self.plan: RelaPlan | None = None
        self.whole: dict[str, Any] = as_plain(fill_defaults(given))

    def get(self, key: str) -> Any:
        value: Any = self.whole
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def wrong(self, key: str, expected: str, fix: str, got: object = ...) -> None:
        self.problems.append(Problem(key, expected, repr(self.get(key)) if got is ... else str(got), fix))

    def flawed(self, prefix: str) -> bool:
        return any(problem.key == prefix or problem.key.startswith(f"{prefix}.") for problem in self.problems)

    def size(self, typical: tuple[int, int] | None) -> None:
        """Put in the sizes that are left to the data."""
        self.problems += [] if self.flawed("image_size") else contradictions(self.whole)
        size = self.get("image_size")
        if self.flawed("augmentations") or self.flawed("image_size") or self.flawed("backbone"):
            return
        if size == AUTO and not leaves_size_open(self.whole):
            return
        if size == AUTO and typical is not None:
            size = suitable_size(*typical)
        if size != AUTO:
            self.whole, self.given = with_size(self.whole, int(size)), with_size(self.given, int(size))

    # --- one method for each part

    def keys(self) -> None:
        """What shows in the configuration alone."""
        self.problems += placed("", validate(HostConfig, self.whole, lenient=True)[1])
        if not self.flawed("method"):
            kwargs, known = self.get("method_kwargs"), METHODS[self.get("method")].METHOD_KWARGS
            self.problems += method_values(kwargs if isinstance(kwargs, Mapping) else {}, known)

    def backbone(self) -> None:
        name = self.get("backbone.name")
        if self.flawed("backbone"):
            return
        if not isinstance(name, str) or not is_backbone(name):
            near = did_you_mean(name, backbone_names(), cutoff=0.5)
            fix = f"did you mean backbone.name={near}?" if near else "set backbone.name=resnet18"
            self.wrong("backbone.name", f"{', '.join(backbone_names()[:5])}, …, or a timm architecture", fix)
            return
        deep = {key: value for key, value in (self.get("backbone.kwargs") or {}).items() if _is_too_deep(key, value)}
        for key in deep:
            fix = f"set backbone.kwargs.{key}=12"
            self.wrong(f"backbone.kwargs.{key}", "at most 1000 of them, or building it takes for ever", fix)
        if self.flawed("augmentations") or leaves_size_open(self.whole) or deep:
            return
        import torch

        sizes = sorted({view["crop_size"] for view in self.get("augmentations")}, reverse=True)
        try:
            # On the meta device nothing is computed; only shapes are.
            with torch.device("meta"), torch.no_grad():
                network, dim = build_backbone(
                    name, self.get("backbone.kwargs"), str(self.get("data.dataset")), self.get("backbone.stem")
                )
                shapes = {size: tuple(network.eval()(torch.empty(1, 3, size, size)).shape) for size in sizes}
        except NotImplementedError:
            return
        except Exception as error:
            fix = "check backbone.kwargs; vision transformers need img_size (and patch_size) that fit the crop_size"
            self.wrong("backbone", f"a network for images of {sizes} px", fix, f"{type(error).__name__}: {error}")
            return
        for size, shape in shapes.items():
            if shape != (1, dim) or not dim:
                fix = "take a network that pools its features; in timm, one with global_pool"
                self.wrong("backbone.name", "features (batch, dim)", fix, f"shape {shape} at {size} px")

    def devices(self) -> int | None:
        import torch

        accelerator = self.get("accelerator")
        self.problems += trainer_values(self.whole)
        try:
            count = count_devices(self.get("devices"), accelerator)
        except ValueError as error:
            fix = "set devices=1, a list of GPU ids, or devices=2 accelerator=cpu"
            self.wrong("devices", "a number of devices or a list of ids", fix, f"{self.get('devices')!r} ({error})")
            return None
        found = torch.cuda.device_count()
        if accelerator in ("gpu", "cuda") and count > found:
            fix = "set accelerator=cpu devices=1" if not found else f"set devices={found}"
            self.wrong("devices", f"at most {found} GPUs, which this machine has", fix)
        elif not self.flawed("num_nodes"):
            self.problems += launcher(count * self.get("num_nodes"))
        return count

    def paths(self) -> None:
        self.problems += missing_checkpoint(self.whole)
        self.problems += missing_packages(self.whole)
        if not self.flawed("checkpoint") and not self.flawed("data"):
            self.problems += places(self.whole)

    def rela(self) -> float:
        """Problems of the `rela` section; returns the fraction of the data in an epoch."""
        section = self.get("rela")
        if section is None:
            return 1.0
        from rela_zoo.engine import plan_rela

        if isinstance(section, Mapping):
            for key, default in (("views_on", "workers"), ("cache", "none")):
                if section.get(key, default) != default:
                    fix = f"remove it, and set data.{key}={section[key]}"
                    self.wrong(f"rela.{key}", f"data.{key} instead, in this host", fix)
        try:
            self.plan = plan_rela(section)
        except ConfigError as error:
            self.problems += error.problems
            return 1.0
        return self.plan.config.data_ratio

    def data(self) -> Checked | None:
        if self.flawed("data"):
            return None
        opened: dict[str, ImageDataset | None] = {"val": None}
        for part in ("train", "val"):
            if part == "val" and (self.get("data.val_path") is None or self.get("data.no_labels")):
                continue
            try:
                opened[part] = open_dataset(self.whole["data"], part)
            except DataProblem as error:
                self.problems.append(error.problem)
        train, val = opened.get("train"), opened["val"]
        if train is None:
            return None
        train = self._without_broken(train)
        if val is not None and self.get("data.on_error") == "skip":
            val = val.without(undecodable(val.source))
        if val is not None:
            try:
                val = val.numbered_as(train.classes)
            except EmbeddingsError:
                extra = sorted(set(val.classes) ^ set(train.classes))[:5]
                fix, got = (
                    "give both the same classes, or set data.val_path=null",
                    f"differing classes: {', '.join(extra)}",
                )
                self.wrong("data.val_path", "the classes of data.train_path", fix, got)
        return Checked(train, val, self.plan, self.given, typical_size(train.source))

    def _without_broken(self, train: ImageDataset) -> ImageDataset:
        """The training set without what can't be decoded, where that may be left out, or was when it was embedded."""
        listed: tuple[str, ...] = ()
        given = [] if self.plan is None else [rows for _, rows, _ in self.plan.config.by_prior]
        if self.plan is not None:
            with suppress(HubError):  # out of reach: the run itself says so, after all that is wrong here
                listed = left_out_of(self.plan.config)
        broken = undecodable(train.without(listed).source) if self.get("data.on_error") == "skip" else []
        smaller = train.without([*listed, *broken])
        count = len(train) - len(smaller)
        if count:
            why = "can't be decoded" if broken else f"were left out of {', '.join(filter(None, given))}"
            here = next(one for one in train.source.ids if one in {*listed, *broken})
            log.warning(f"rela_zoo: {count:,} images are left out of the training, for they {why}: {here}, …")
        return smaller

    def batch(self, samples: int, ratio: float, processes: int) -> None:
        size = self.get("optimizer.batch_size")
        # As in `rela_zoo.selection.subset.EpochSubset`, whose tolerance this is.
        drawn = int(ratio * samples + 1e-9)
        share = drawn // processes
        if share < size:
            part = "the training set" if ratio == 1.0 else f"rela.data_ratio={ratio:g} of {samples} samples"
            ranks = "" if processes == 1 else f", {share} on each of {processes} processes"
            fix = f"set optimizer.batch_size to at most {share}" if share >= 2 else "use more data"
            fix += "" if ratio == 1.0 else ", or raise rela.data_ratio"
            self.wrong("optimizer.batch_size", f"at most {share}: {part} has {drawn} samples an epoch{ranks}", fix)


def check(cfg: Any) -> Checked:
    """Check a configuration as the user wrote it, without training or computing anything.

    Args:
        cfg: a mapping or an OmegaConf configuration.

    Returns:
        The opened data sets, without transforms, and the configuration with sizes and stem in place.

    Raises:
        ConfigError: with every problem found, by dotted key.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        # `???` stays what it is, to be reported with the rest.
        given: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    except (MissingMandatoryValue, OmegaConfBaseException) as error:
        key = str(getattr(error, "full_key", None) or "configuration")
        raise ConfigError(
            [Problem(key, "a value that can be resolved", str(error).splitlines()[0], "set it")]
        ) from None
    found = _Check(given)
    found.keys()
    processes = found.devices()
    found.paths()
    ratio = found.rela()
    checked = found.data()
    found.size(None if checked is None else checked.typical)
    found.backbone()
    if (
        checked is not None
        and processes is not None
        and not found.flawed("optimizer")
        and not found.flawed("num_nodes")
    ):
        found.batch(len(checked.train), ratio, processes * found.get("num_nodes"))
    if found.problems or checked is None:
        raise ConfigError(found.problems)
    return checked._replace(config=found.given)
