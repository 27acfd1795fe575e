"""Check a whole configuration before anything is trained, and report every mistake at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from rela_zoo.data import ParquetSource
from rela_zoo.data.datasets import DataProblem, ImageDataset, open_dataset
from rela_zoo.data.statistics import NUM_CLASSES
from rela_zoo.engine import RelaPlan
from rela_zoo.errors import ConfigError, Problem
from rela_zoo.hosts.builtin.config import (
    IGNORED,
    SECTIONS,
    TOP_LEVEL,
    as_plain,
    count_crops,
    count_devices,
    fill_defaults,
)
from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.optim import OPTIMIZERS, SCHEDULERS
from rela_zoo.networks.backbones import backbone_names, build_backbone, is_backbone

_DATASETS = (*NUM_CLASSES, "custom")
_FORMATS = ("image_folder", "parquet")
_VIEW_PARTS = ("color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")
# Key → smallest value, whether it must be an integer, whether the smallest value itself is refused.
_NUMBERS: dict[str, tuple[float, bool, bool]] = {
    "max_epochs": (1, True, False),
    "num_nodes": (1, True, False),
    "seed": (0, True, False),
    "accumulate_grad_batches": (1, True, False),
    "optimizer.batch_size": (2, True, False),
    "optimizer.lr": (0, False, True),
    "optimizer.classifier_lr": (0, False, False),
    "optimizer.weight_decay": (0, False, False),
    "scheduler.warmup_epochs": (0, False, False),
    "scheduler.warmup_start_lr": (0, False, False),
    "scheduler.min_lr": (0, False, False),
    "data.num_workers": (0, True, False),
    "checkpoint.frequency": (1, True, False),
    "knn_eval.k": (1, True, False),
}


class Checked(NamedTuple):
    """What a check leaves behind: opened data sets and the plan of `rela`, so that nothing is looked up twice."""

    train: ImageDataset
    val: ImageDataset | None
    plan: RelaPlan | None


class _Check:
    """Collects the problems of one configuration."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
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

    def choice(self, key: str, choices: Any) -> bool:
        value = self.get(key)
        if value in choices:
            return True
        near = get_close_matches(str(value), list(choices), n=1, cutoff=0.5)
        fix = f"did you mean {key}={near[0]}?" if near else f"set {key}={next(iter(choices))}"
        self.wrong(key, " | ".join(choices), fix)
        return False

    # --- one method for each part

    def keys(self) -> None:
        """Missing keys, and keys that look like a slip of the pen; others are left alone, as in solo-learn."""
        from lightning.pytorch import Trainer

        known = {*TOP_LEVEL, *SECTIONS, *IGNORED, "rela", *inspect.signature(Trainer.__init__).parameters}
        self.slips(self.given, known, "")
        for section, keys in SECTIONS.items():
            values = self.given.get(section)
            if values is not None and not isinstance(values, Mapping):
                self.wrong(
                    section, f"a section with {', '.join(keys)}", "see the packaged configurations", repr(values)
                )
                continue
            expected = set(keys)
            if section == "method_kwargs":
                # Those of any method: what another method of the same file needs is no slip.
                expected = {key for method in METHODS.values() for key in method.METHOD_KWARGS}
            self.slips(values or {}, expected, f"{section}.")
            for key, default in keys.items():
                if default is ... and (values or {}).get(key, "???") in ("???", None):
                    self.wrong(f"{section}.{key}", "a value", f"set {section}.{key}=…", "nothing")
        for key, default in TOP_LEVEL.items():
            if default is ... and self.given.get(key, "???") in ("???", None):
                self.wrong(key, "a value", f"set {key}=…", "nothing")

    def slips(self, given: Mapping[str, Any], known: set[str], prefix: str) -> None:
        for key in given:
            if key not in known and (near := get_close_matches(str(key), known, n=1, cutoff=0.8)):
                self.wrong(f"{prefix}{key}", "a known key", f"did you mean {prefix}{near[0]}?", repr(given[key]))

    def numbers(self) -> None:
        for key, (least, whole, beyond) in _NUMBERS.items():
            value = self.get(key)
            if self.flawed(key) or (value is None and key == "accumulate_grad_batches"):
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or (whole and value != int(value)) or value < least or (beyond and value == least):
                kind = "an integer" if whole else "a number"
                self.wrong(key, f"{kind} {'>' if beyond else '≥'} {least:g}", f"set {key} to such a number")
        low, high = self.get("momentum.base_tau"), self.get("momentum.final_tau")
        for key, tau in (("momentum.base_tau", low), ("momentum.final_tau", high)):
            if not isinstance(tau, int | float) or not 0 <= tau <= 1:
                self.wrong(key, "a number in [0, 1]", f"set {key}=0.99")
        if not self.flawed("momentum") and low > high:
            self.wrong("momentum.base_tau", f"at most momentum.final_tau, {high}", "exchange the two")

    def choices(self) -> None:
        if not self.flawed("method"):
            self.choice("method", METHODS)
        for key, choices in (
            ("optimizer.name", OPTIMIZERS),
            ("scheduler.name", SCHEDULERS),
            ("scheduler.interval", ("step", "epoch")),
            ("knn_eval.distance_func", ("euclidean", "cosine")),
            ("data.dataset", _DATASETS),
        ):
            if not self.flawed(key):
                self.choice(key, choices)
        if self.get("data.format") not in _FORMATS:
            self.wrong("data.format", " | ".join(_FORMATS), "set data.format=image_folder, or train with solo-learn")
        if self.get("data.fraction") not in (-1, None):
            self.wrong("data.fraction", "-1", "take a fresh part of the data in each epoch: rela.data_ratio=…")
        if self.get("scheduler.name") == "step" and not self.get("scheduler.lr_decay_steps"):
            self.wrong("scheduler.lr_decay_steps", "a list of epochs", "set scheduler.lr_decay_steps=[60,80]")
        name = self.get("optimizer.name")
        if name in OPTIMIZERS:
            accepted = set(inspect.signature(OPTIMIZERS[name].__init__).parameters) - {"self", "params", "lr"}
            for key in self.get("optimizer.kwargs") or {}:
                if key not in accepted:
                    fix = f"remove it: ~optimizer.kwargs.{key}; {name} takes {', '.join(sorted(accepted))}"
                    self.wrong(f"optimizer.kwargs.{key}", f"an option of {name}", fix)

    def views(self) -> None:
        views = self.get("augmentations")
        if self.flawed("augmentations"):
            return
        if not isinstance(views, list) or not views or not all(isinstance(view, Mapping) for view in views):
            self.wrong(
                "augmentations", "a list of views", "see conf/augmentations of the package", type(views).__name__
            )
            return
        for i, view in enumerate(views):
            at = f"augmentations.{i}"
            for key in ("crop_size", "num_crops"):
                if not isinstance(view.get(key), int) or view[key] < 1:
                    self.wrong(f"{at}.{key}", "an integer ≥ 1", f"give the view a {key}", repr(view.get(key)))
            crop = view.get("rrc") or {"enabled": False}
            low, high = crop.get("crop_min_scale", 0.08), crop.get("crop_max_scale", 1.0)
            if crop.get("enabled") and not 0 < low <= high <= 1:
                self.wrong(
                    f"{at}.rrc", "0 < crop_min_scale ≤ crop_max_scale ≤ 1", "see the packaged views", (low, high)
                )
            for part in _VIEW_PARTS:
                chance = (view.get(part) or {}).get("prob", 0.0)
                if not isinstance(chance, int | float) or not 0 <= chance <= 1:
                    self.wrong(f"{at}.{part}.prob", "a probability in [0, 1]", "set it to such a number", repr(chance))
        if self.flawed("augmentations"):
            return
        large, small = count_crops(views)
        if large != 2:
            fix = "let the num_crops of the views with the first view's crop_size add up to 2"
            self.wrong("augmentations", "two large crops", fix, f"{large} of {views[0]['crop_size']} px")
        method = METHODS.get(self.get("method"))
        if small and method is not None and not method.takes_small_crops:
            able = ", ".join(name for name, found in METHODS.items() if found.takes_small_crops)
            fix = f"remove the small crops, or take one of {able}"
            self.wrong("augmentations", f"large crops only for {self.get('method')}", fix, f"{small} small crops")

    def backbone(self) -> None:
        name = self.get("backbone.name")
        if self.flawed("backbone"):
            return
        if not isinstance(name, str) or not is_backbone(name):
            near = get_close_matches(str(name), backbone_names(), n=1, cutoff=0.5)
            fix = f"did you mean backbone.name={near[0]}?" if near else "set backbone.name=resnet18"
            self.wrong("backbone.name", f"{', '.join(backbone_names()[:5])}, …, or a timm architecture", fix)
            return
        if self.flawed("augmentations"):
            return
        import torch

        sizes = sorted({view["crop_size"] for view in self.get("augmentations")}, reverse=True)
        try:
            # On the meta device nothing is computed; only shapes are.
            with torch.device("meta"), torch.no_grad():
                network, dim = build_backbone(name, self.get("backbone.kwargs"), str(self.get("data.dataset")))
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
        return count

    def paths(self) -> None:
        path = self.get("resume_from_checkpoint")
        if path is not None and not Path(str(path)).expanduser().is_file():
            self.wrong("resume_from_checkpoint", "an existing checkpoint", "name one, or set auto_resume.enabled=true")

    def rela(self) -> float:
        """Problems of the `rela` section; returns the fraction of the data in an epoch."""
        section = self.get("rela")
        if section is None:
            return 1.0
        from rela_zoo.engine import plan_rela

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
        # Of folders the names must agree, for a missing one would shift the labels of the rest.
        by_number = val is not None and isinstance(val.source, ParquetSource)
        numbered = val is not None and by_number and set(val.classes) <= set(train.classes)
        if val is not None and val.classes != train.classes and not numbered:
            extra = sorted(set(val.classes) ^ set(train.classes))[:5]
            fix = "give both folders the same classes, or set data.val_path=null"
            self.wrong("data.val_path", "the classes of data.train_path", fix, f"differing classes: {', '.join(extra)}")
        return Checked(train, val, self.plan)

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
        The opened data sets, without transforms.

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
    found.numbers()
    found.choices()
    found.views()
    found.backbone()
    processes = found.devices()
    found.paths()
    ratio = found.rela()
    checked = found.data()
    if (
        checked is not None
        and processes is not None
        and not found.flawed("optimizer")
        and not found.flawed("num_nodes")
    ):
        found.batch(len(checked.train), ratio, processes * found.get("num_nodes"))
    if found.problems or checked is None:
        raise ConfigError(found.problems)
    return checked
