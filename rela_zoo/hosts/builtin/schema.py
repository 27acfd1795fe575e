"""What a configuration of the built-in host may say: keys, types and defaults, with the names that solo-learn uses.

Unknown keys are no mistake by themselves, for solo-learn's configurations have more of them than mean anything here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from rela_zoo._io.fields import Fix, Problems, Section, Whole, one_of
from rela_zoo.data.statistics import NUM_CLASSES
from rela_zoo.data.view_config import View
from rela_zoo.errors import Problem
from rela_zoo.hosts.builtin.names import (
    OPTIMIZER_NAMES,
    SCHEDULER_NAMES,
    TRAINER_KEYS,
    method_keys,
    method_names,
    small_crop_methods,
)
from rela_zoo.networks.names import RESNETS

# Sections of solo-learn's that mean nothing here and are left alone.
IGNORED = ("dali", "auto_umap", "hydra")

_SUCH = Fix("set {key} to such a number")
_Least0 = Annotated[int | float, Field(ge=0, description="a number ≥ 0"), _SUCH]
_Positive = Annotated[int | float, Field(gt=0, description="a number > 0"), _SUCH]
_Count = Annotated[Whole, Field(ge=1, description="an integer ≥ 1"), _SUCH]
_Whole0 = Annotated[Whole, Field(ge=0, description="an integer ≥ 0"), _SUCH]
_Share = Annotated[int | float, Field(ge=0, le=1, description="a number in [0, 1]"), Fix("set {key}=0.99")]


class _Part(Section):
    """A section; `???` and, where a value is needed, null count as missing."""

    @model_validator(mode="before")
    @classmethod
    def _without_gaps(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        needed = {key for key, field in cls.model_fields.items() if field.is_required()}
        return {key: x for key, x in given.items() if x != "???" and not (x is None and key in needed)}


class Backbone(_Part):
    """The student; its name is checked where it is built."""

    name: Any
    kwargs: dict[str, Any] = Field(default_factory=dict)
    # Of a ResNet: imagenet, 7×7 and max-pooling; cifar, 3×3 and none. null goes by data set and size of the images.
    stem: Literal["imagenet", "cifar"] | None = None

    @field_validator("stem")
    @classmethod
    def _of_a_resnet(cls, stem: str | None, info: ValidationInfo) -> str | None:
        name = info.data.get("name")
        if stem is not None and name not in RESNETS:
            raise Problems([Problem("", f"null for {name}, which has its own stem", repr(stem), "set {key}=null")])
        return stem


class Data(_Part):
    """Where the images are."""

    dataset: Annotated[str, one_of(lambda: (*NUM_CLASSES, "custom"))]
    train_path: Any
    val_path: Any = None
    format: Annotated[
        Literal["image_folder", "parquet"],
        Field(description="image_folder or parquet"),
        Fix("set {key}=image_folder, or train with solo-learn"),
    ] = "image_folder"
    num_workers: _Whole0 = 0
    cache: Literal["none", "memory", "device"] = "none"
    views_on: Annotated[Literal["workers", "device"], Field(validate_default=True)] = "workers"
    no_labels: bool = False
    # Images that can't be decoded: an error, or left out and listed; looked for before training.
    on_error: Annotated[Literal["raise", "skip"], Field(description="raise or skip")] = "raise"
    fraction: (
        Annotated[
            int | float,
            Field(ge=-1, le=-1, description="-1"),
            Fix("take a fresh part of the data in each epoch: rela.data_ratio=…"),
        ]
        | None
    ) = -1
    num_classes: Any = None
    num_large_crops: Any = None
    num_small_crops: Any = None

    @field_validator("views_on")
    @classmethod
    def _where_the_images_are(cls, where: str, info: ValidationInfo) -> str:
        if where == "workers" and info.data.get("cache") == "device":
            fix = "set {key}=device, or data.cache=memory"
            raise Problems([Problem("", "device, for data.cache=device", repr(where), fix)])
        return where


class Optimizer(_Part):
    """Rates are for 256 samples in a step."""

    name: Annotated[str, one_of(lambda: OPTIMIZER_NAMES)]
    batch_size: Annotated[Whole, Field(ge=2, description="an integer ≥ 2"), _SUCH]
    lr: _Positive
    classifier_lr: _Least0 = 0.1
    weight_decay: _Least0 = 0.0
    kwargs: dict[str, Any] = Field(default_factory=dict)
    exclude_bias_n_norm_wd: bool = False

    @field_validator("kwargs")
    @classmethod
    def _taken_by_the_optimizer(cls, kwargs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None or not kwargs:
            return kwargs
        from rela_zoo.hosts.builtin.optim import OPTIMIZERS

        accepted = set(inspect.signature(OPTIMIZERS[name].__init__).parameters) - {"self", "params", "lr"}
        fix = f"remove it: ~{{key}}; {name} takes {', '.join(sorted(accepted))}"
        wrong = [Problem(key, f"an option of {name}", repr(kwargs[key]), fix) for key in kwargs if key not in accepted]
        if wrong:
            raise Problems(wrong)
        return kwargs


class Scheduler(_Part):
    """How the rate changes."""

    name: Annotated[str, one_of(lambda: SCHEDULER_NAMES)] = "warmup_cosine"
    warmup_epochs: _Least0 = 10
    warmup_start_lr: _Least0 = 3e-5
    min_lr: _Least0 = 0.0
    lr_decay_steps: Annotated[
        list[Any] | None, Field(description="a list of epochs", validate_default=True), Fix("set {key}=[60,80]")
    ] = None
    interval: Literal["step", "epoch"] = "step"

    @field_validator("lr_decay_steps")
    @classmethod
    def _given_for_steps(cls, steps: list[Any] | None, info: ValidationInfo) -> list[Any] | None:
        if info.data.get("name") == "step" and not steps:
            raise Problems([Problem("", "a list of epochs", repr(steps), "set {key}=[60,80]")])
        return steps


class Momentum(_Part):
    """Of the target network."""

    base_tau: _Share = 0.99
    final_tau: _Share = 1.0
    classifier: bool = False

    @field_validator("final_tau")
    @classmethod
    def _not_below_its_start(cls, final: float, info: ValidationInfo) -> float:
        base = info.data.get("base_tau", final)
        if base > final:
            raise Problems(
                [Problem(".base_tau", f"at most momentum.final_tau, {final}", repr(base), "exchange the two")]
            )
        return final


class KnnEval(_Part):
    """k-NN accuracy while training."""

    enabled: bool = False
    k: _Count = 20
    distance_func: Literal["euclidean", "cosine"] = "euclidean"


class Performance(_Part):
    """How the machine is used."""

    disable_channel_last: bool = False


class Checkpoint(_Part):
    """What is written, where and how often."""

    enabled: bool = False
    dir: Any = "trained_models"
    frequency: _Count = 1
    keep_prev: bool = False


class Logs(_Part):
    """Files in the run's folder."""

    csv: bool = True
    tensorboard: bool = True


class Wandb(_Part):
    """Weights & Biases, by solo-learn's keys."""

    enabled: bool = False
    project: str | None = None
    entity: str | None = None
    offline: bool = False


class Trackio(_Part):
    """Trackio."""

    enabled: bool = False
    project: str | None = None


class AutoResume(_Part):
    """Whether a run goes on from the checkpoint of an equal one."""

    enabled: bool = False
    max_hours: int | float = 36


class MethodKwargs(_Part):
    """What the method takes; each knows its own."""

    @classmethod
    def known_keys(cls) -> Collection[str]:
        # Those of any method: what another method of the same file needs is no slip.
        return method_keys()


class HostView(View):
    """A view, whose number must be said here."""

    num_crops: Annotated[int, Field(ge=1, description="an integer ≥ 1"), Fix("give the view a num_crops")]
    # auto: `image_size`, or what suits the data; half: of that.
    crop_size: Annotated[  # type: ignore[assignment]
        Annotated[int, Field(ge=1)] | Literal["auto", "half"],
        Field(description="an integer ≥ 1, auto or half"),
        Fix("give the view a crop_size"),
    ]


class HostConfig(_Part):
    """A whole configuration; `rela` has a model of its own, in the engine."""

    name: Annotated[
        str,
        Field(pattern=r"^[^/\\\x00-\x1f]{1,160}$", description="a file name, without / and \\"),
        Fix("set {key}=run; checkpoint.dir groups runs in folders"),
        BeforeValidator(lambda name: str(name) if isinstance(name, int | float) else name),
    ] = "run"
    method: Annotated[str, one_of(method_names)]
    augmentations: Annotated[
        list[HostView], Field(min_length=1, description="a list of views"), Fix("see conf/augmentations of the package")
    ]
    max_epochs: _Count
    # Side of the large crops whose crop_size is auto, in pixels; auto takes what suits the data.
    image_size: Annotated[
        Annotated[Whole, Field(ge=8)] | Literal["auto"],
        Field(description="an integer ≥ 8, or auto"),
        Fix("set {key}=224, or auto"),
    ] = "auto"
    # Checked against the machine.
    devices: Any = "1"
    num_nodes: _Count = 1
    accelerator: Any = "auto"
    strategy: Any = "auto"
    precision: Any = 32
    sync_batchnorm: bool = False
    accumulate_grad_batches: _Count | None = 1
    seed: _Whole0 = 5
    resume_from_checkpoint: Any = None
    debug_augmentations: bool = False

    backbone: Backbone
    data: Data
    optimizer: Optimizer
    scheduler: Scheduler = Scheduler()
    momentum: Momentum = Momentum()
    knn_eval: KnnEval = KnnEval()
    performance: Performance = Performance()
    checkpoint: Checkpoint = Checkpoint()
    auto_resume: AutoResume = AutoResume()
    logs: Logs = Logs()
    wandb: Wandb = Wandb()
    trackio: Trackio = Trackio()
    method_kwargs: MethodKwargs = MethodKwargs()

    @field_validator("augmentations")
    @classmethod
    def _crops_that_the_method_takes(cls, views: list[HostView], info: ValidationInfo) -> list[HostView]:
        problems, size = [], views[0].crop_size
        large = sum(view.num_crops for view in views if view.crop_size == size)
        small = sum(view.num_crops for view in views) - large
        if large != 2:
            fix = "let the num_crops of the views with the first view's crop_size add up to 2"
            problems.append(Problem("", "two large crops", f"{large} of {size} px", fix))
        name = info.data.get("method")
        able = small_crop_methods()
        if small and name is not None and name not in able:
            fix = f"remove the small crops, or take one of {', '.join(able)}"
            problems.append(Problem("", f"large crops only for {name}", f"{small} small crops", fix))
        if problems:
            raise Problems(problems)
        return views

    @classmethod
    def known_keys(cls) -> Collection[str]:
        return (*cls.model_fields, *IGNORED, "rela", *TRAINER_KEYS, *_newer_trainer_keys())


def _newer_trainer_keys() -> list[str]:
    """Of the installed Lightning, where it has been imported already."""
    lightning = sys.modules.get("lightning.pytorch")
    trainer = getattr(lightning, "Trainer", None)
    return [] if trainer is None else list(inspect.signature(trainer.__init__).parameters)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, _Part)


def _defaults(model: type[_Part]) -> dict[str, Any]:
    """Of the keys that have one, sections left out."""
    fields = {key: field for key, field in model.model_fields.items() if not _is_section(field.annotation)}
    return {
        key: field.get_default(call_default_factory=True) for key, field in fields.items() if not field.is_required()
    }


def top_level_defaults() -> dict[str, Any]:
    """Key → default, of those outside sections that have one."""
    return _defaults(HostConfig)


def section_defaults() -> dict[str, dict[str, Any]]:
    """Section → its keys that have a default, with it."""
    fields: dict[str, Any] = {key: field.annotation for key, field in HostConfig.model_fields.items()}
    return {key: _defaults(model) for key, model in fields.items() if _is_section(model)}
