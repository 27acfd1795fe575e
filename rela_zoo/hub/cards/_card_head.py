"""The YAML head of a card: what the Hub indexes, by the Hub client's own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import CardData, EvalResult, ModelCardData

from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.registry import PriorSpec

HUB_TAGS = ("rela-zoo", "rela-prior")
LIBRARY = "rela-zoo"

# The order of keys is fixed here: another version of the client must not change the bytes of a card.
_ORDER = [
    "license", "license_name", "license_link", "library_name", "pretty_name", "pipeline_tag", "tags", "datasets",
    "base_model", "task_categories", "size_categories", "source_datasets", "configs", "dataset_info", "metrics",
    "rela_zoo",
]  # fmt: skip

# Ours → the Hub's. `not-applicable` (an untrained network has no weights to license) is left out.
_LICENCES = {"unstated": "unknown"}
# Beginning of `training_data` → data set on the Hub; only where the name leaves no doubt.
_TRAINED_ON = {
    "CIFAR-10 ": "uoft-cs/cifar10",
    "CIFAR-10,": "uoft-cs/cifar10",
    "CIFAR-100": "uoft-cs/cifar100",
    "ImageNet-1k": "ILSVRC/imagenet-1k",
}


def front_matter(head: CardData) -> str:
    """The head of a card as text, between its two lines of dashes."""
    return f"---\n{head.to_yaml(original_order=_ORDER)}\n---\n"


def licence_fields(spec: PriorSpec) -> dict[str, Any]:
    """`license`, and for `other` its name and link, as the Hub demands them."""
    if spec.licence == "not-applicable":
        return {}
    if spec.licence == "other":
        link = spec.licence_link or "LICENSE"
        return {"license": "other", "license_name": f"{spec.id}-licence", "license_link": link}
    return {"license": _LICENCES.get(spec.licence, spec.licence)}


def trained_on(spec: PriorSpec) -> list[str]:
    """Data sets of the Hub that a prior was trained on, as far as the entry's words leave no doubt."""
    return [hub for start, hub in _TRAINED_ON.items() if spec.training_data.startswith(start)]


def model_metadata(
    spec: PriorSpec,
    measured: Sequence[Measurement] = (),
    *,
    base_model: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> ModelCardData:
    """The head of a model card.

    Args:
        spec: the entry.
        measured: numbers about this prior; those on a data set of the Hub become its `model-index`.
        base_model: repository the weights come from; by default that of the entry.
        more: keys of this package's own.
    """
    numbers = [one for one in measured if one.prior == spec.id and one.hub_dataset and one.value is not None]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=str(one.hub_dataset),
            dataset_name=one.data,
            metric_type=one.metric,
            metric_name=one.measure,
            metric_value=one.value,
        )
        for one in numbers
    ]
    return ModelCardData(
        **licence_fields(spec),
        library_name=LIBRARY,
        pipeline_tag="image-feature-extraction",
        tags=[*HUB_TAGS, *(["timm"] if spec.family == "timm" and spec.has_weights else [])],
        datasets=trained_on(spec) or None,  # what it was trained on, and nothing else
        base_model=base_model or spec.repo,
        metrics=[*dict.fromkeys(one.metric for one in numbers)] or None,
        eval_results=results or None,
        model_name=spec.id if results else None,
        **(more or {}),
    )
