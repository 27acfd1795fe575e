"""The YAML head of a card: what the Hub indices (hub-docs modelcard.md and datasetcard.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.registry import PriorSpec

HUB_TAGS = ("rela-zoo", "rela-prior")
LIBRARY = "rela-zoo"

# Ours → the Hub's. `not-applicable` (an untrained network has no weights to license) is left out.
_LICENCES = {"unstated": "unknown"}
# Beginning of `training_data` → data set on the Hub; only where the name leaves no doubt.
_TRAINED_ON = {
    "CIFAR-10 ": "uoft-cs/cifar10",
    "CIFAR-10,": "uoft-cs/cifar10",
    "CIFAR-100": "uoft-cs/cifar100",
    "ImageNet-1k": "ILSVRC/imagenet-1k",
}


def front_matter(metadata: dict[str, Any]) -> str:
    """A mapping as the head of a card, between its two lines of dashes."""
    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def licence_fields(licence: str, link: str | None, name: str | None = None) -> dict[str, str]:
    """`license`, and for `other` its name and link, as the Hub demands them."""
    if licence == "not-applicable":
        return {}
    if licence == "other":
        return {"license": "other", "license_name": name or "see-link", "license_link": link or "LICENSE"}
    return {"license": _LICENCES.get(licence, licence)}


def trained_on(spec: PriorSpec) -> list[str]:
    """Data sets of the Hub that a prior was trained on, as far as the entry's words leave no doubt."""
    return [hub for start, hub in _TRAINED_ON.items() if spec.training_data.startswith(start)]


def model_metadata(
    spec: PriorSpec,
    measured: Sequence[Measurement] = (),
    *,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
) -> dict[str, Any]:
    """The head of a model card.

    Args:
        spec: the entry.
        measured: numbers about this prior; those on a data set of the Hub become its `model-index`.
        base_model: repository the weights come from; by default that of the entry.
        datasets: further data sets of the Hub, such as the published embeddings.
    """
    results = [one for one in measured if one.prior == spec.id and one.hub_dataset and one.value is not None]
    tags = [*HUB_TAGS, *(["timm"] if spec.family == "timm" and spec.has_weights else [])]
    found: dict[str, Any] = {
        **licence_fields(spec.licence, spec.licence_link, f"{spec.id}-licence"),
        "library_name": LIBRARY,
        "pipeline_tag": "image-feature-extraction",
        "tags": tags,
    }
    if sets := [*dict.fromkeys([*trained_on(spec), *datasets])]:
        found["datasets"] = sets
    if base := base_model or spec.repo:
        found["base_model"] = base
    if results:
        found["metrics"] = [*dict.fromkeys(one.metric for one in results)]
        found["model-index"] = [{"name": spec.id, "results": [_result(one) for one in results]}]
    return found


def _result(one: Measurement) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": one.hub_dataset, "name": one.data},
        "metrics": [{"type": one.metric, "name": one.measure, "value": one.value}],
    }
