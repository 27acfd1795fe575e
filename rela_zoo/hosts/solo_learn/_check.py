"""What can't work in a configuration of solo-learn with `rela`, and why; known before anything is loaded."""

from __future__ import annotations

from typing import Any

from rela_zoo.errors import Problem
from rela_zoo.hosts.solo_learn._compose import check_composed

_ARRAYS = ("cifar10", "cifar100", "stl10")


def _select(cfg: Any, key: str, default: Any = None) -> Any:
    """A dotted key of an OmegaConf configuration; the default also where the value is null."""
    from omegaconf import OmegaConf

    value = OmegaConf.select(cfg, key, default=default)
    return default if value is None else value


def check_config(cfg: Any) -> list[Problem]:
    """Find what this package can't do with a configuration of `main_pretrain.py`, or what is broken upstream.

    Args:
        cfg: the whole configuration, with a `rela` section.

    Returns:
        Every problem found, by dotted key.
    """
    return [*check_composed(cfg), *_check_data(cfg), *_check_method(cfg)]


def _check_data(cfg: Any) -> list[Problem]:
    problems = []
    dataset, kind = str(_select(cfg, "data.dataset", "")), str(_select(cfg, "data.format", "image_folder"))
    if kind == "dali" and not _select(cfg, "dali.encode_indexes_into_labels", False):
        problems.append(
            Problem(
                "dali.encode_indexes_into_labels",
                "true, so that a batch says which samples it holds",
                "false: every batch carries the same made-up indices",
                "set dali.encode_indexes_into_labels=true, or data.format=image_folder",
            )
        )
    if kind == "dali" and _select(cfg, "rela.handover_at", "epoch") != "epoch":
        expected = "epoch under DALI, whose reader is made for a whole epoch"
        problems.append(Problem("rela.handover_at", expected, "step", "set rela.handover_at=epoch"))
    for key in ("views_on", "cache") if kind == "dali" else ():
        # auto: where it can be.
        if (value := _select(cfg, f"rela.{key}", "auto")) not in ("auto", "workers", "none"):
            expected = "no say in it under DALI, which decodes and makes views by itself"
            problems.append(Problem(f"rela.{key}", expected, str(value), "remove it, or set data.format=image_folder"))
    fraction = float(_select(cfg, "data.fraction", -1))
    if fraction > 0 and (dataset in _ARRAYS or kind == "h5"):
        where = dataset if dataset in _ARRAYS else "h5 files"
        problems.append(
            Problem(
                "data.fraction",
                f"-1 on {where}: solo-learn looks for a list `samples`, which this data set has not",
                f"{fraction:g}",
                "set data.fraction=-1, and rela.data_ratio for a fraction in each epoch",
            )
        )
    if kind == "h5" and dataset not in ("imagenet", "imagenet100"):
        got = f"{kind} with data.dataset={dataset}"
        fix = "set data.format=image_folder"
        problems.append(Problem("data.format", "h5 with imagenet or imagenet100 only, as in solo-learn", got, fix))
    return problems


def knn_works() -> bool:
    """Whether solo-learn's k-NN can be built: it gives torchmetrics an argument that 1.0 has no more."""
    from importlib import metadata

    return int(metadata.version("torchmetrics").split(".")[0]) < 1


def _check_method(cfg: Any) -> list[Problem]:
    problems = []
    method, batch_size = str(_select(cfg, "method", "")), int(_select(cfg, "optimizer.batch_size", 0))
    ratio = _select(cfg, "rela.data_ratio", 1.0)
    if method == "deepclusterv2":
        if ratio != 1:
            problems.append(
                Problem(
                    "rela.data_ratio",
                    "1 for deepclusterv2, whose targets are the clusters of the same samples one epoch earlier",
                    f"{ratio}: most samples of a fresh draw have no cluster",
                    "set rela.data_ratio=1.0, or choose another method",
                )
            )
        if _select(cfg, "rela.handover_at", "epoch") != "epoch":
            expected = "epoch for deepclusterv2, whose memory is filled by whole epochs"
            problems.append(Problem("rela.handover_at", expected, "step", "set rela.handover_at=epoch"))
    if _select(cfg, "knn_eval.enabled", False) and not knn_works():
        expected = "false with torchmetrics 1.0 or newer, where solo-learn's k-NN can't be built"
        fix = "pip install 'torchmetrics<1', or set knn_eval.enabled=false"
        problems.append(Problem("knn_eval.enabled", expected, "true", fix))
    size = int(_select(cfg, "method_kwargs.whitening_size", 256))
    if method == "wmse" and batch_size and batch_size % size:
        problems.append(
            Problem(
                "method_kwargs.whitening_size",
                f"a divisor of optimizer.batch_size={batch_size}",
                f"{size}",
                f"set optimizer.batch_size={-(-batch_size // size) * size}, or a smaller whitening_size",
            )
        )
    return problems
