"""The packaged entries as data: what they must hold whatever timm says."""

from __future__ import annotations

import re

import pytest

from rela_zoo._io import paths
from rela_zoo.registry import packaged_priors, read_folder

WANTED = {
    "cifar10-resnet20",
    "cifar10-resnet18",
    "cifar100-resnet18",
    "cifar10-byol-resnet18",
    "cifar100-byol-resnet18",
    "tiny-imagenet-byol-resnet18",
    "imagenet1k-byol-resnet50",
    "imagenet1k-efficientnet-lite0",
    "imagenet1k-efficientnet-lite1",
    "imagenet1k-efficientnet-lite2",
    "imagenet1k-resnet50",
    "imagenet21k-resnet50",
    "imagenet21k-miil-resnet50",
    "imagenet21k-mobilenetv3",
    "clip-rn50",
    "clip-rn101",
    "clip-rn50x4",
    "clip-vit-b32",
    "clip-vit-b16",
    "clip-vit-l14",
    "dino-vit-s16",
    "dino-vit-b16",
    "dino-vit-s8",
    "dino-resnet50",
    "dinov2-vit-s14",
    "dinov2-vit-b14",
    "siglip-vit-b16",
    "open-nsfw",
    "yolov9",
    "random",
}

PRIORS = {spec.id: spec for spec in packaged_priors()}


def test_no_file_of_the_registry_has_a_problem():
    specs, problems = read_folder(paths.packaged_registry())
    assert problems == []
    assert {spec.id for spec in specs} >= WANTED


@pytest.mark.parametrize("spec", PRIORS.values(), ids=PRIORS)
def test_an_entry_says_what_a_user_must_know(spec):
    assert spec.training_data
    assert spec.notes
    assert spec.source != "callable", "the package runs no code named in data"
    if spec.source in ("timm", "hub"):
        assert spec.licence not in ("unstated", "not-applicable")
        if not spec.pinned:
            assert any("known" in note for note in spec.notes), "say what is missing"
    if spec.source == "local" and spec.family != "external":
        assert spec.origin is not None
        assert any("safetensors" in note for note in spec.notes), "say how to supply the weights"


@pytest.mark.parametrize("spec", [s for s in PRIORS.values() if s.id.startswith("clip-")], ids=lambda s: s.id)
def test_clip_entries_record_layer_crop_and_activation(spec):
    assert spec.preprocessing is not None
    assert spec.layer == "projection"
    assert spec.preprocessing.crop_pct == 1.0, "OpenAI's own, not timm's 0.9"
    assert spec.preprocessing.interpolation == "bicubic"
    if "vit" in spec.architecture:
        assert "_clip_quickgelu_" in spec.architecture


def test_packages_are_those_of_the_extras():
    """What the error tells to install has the very version whose hash is pinned."""
    lines = (paths.packaged_registry().parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = {"imagenet": set(re.findall(r'"([\w-]+==[\w.]+)"', lines.split("\nimagenet = [")[1].split("]")[0]))}
    wanted: dict[str, set[str]] = {}
    for spec in PRIORS.values():
        if spec.package is not None and spec.package.extra is not None:
            assert spec.licence != "unstated"
            pinned = f"{spec.package.distribution}=={spec.package.version}"
            wanted.setdefault(spec.package.extra, set()).add(pinned)
    assert wanted == extras


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_preprocessing_of_efficientnet_lite(number, size):
    """As its authors evaluate: bicubic, to 32 pixels more than the crop; not ImageNet's mean and deviation."""
    p = PRIORS[f"imagenet1k-efficientnet-lite{number}"].preprocessing
    assert (p.input_size, p.resize, p.interpolation) == (size, size + 32, "bicubic")
    assert p.mean == p.std == (0.5, 0.5, 0.5)


def test_dinov3_is_marked_for_its_licence():
    spec = PRIORS["dinov3-vit-s16"]
    assert (spec.licence, "LICENCE" in " ".join(spec.notes)) == ("other", True)
    assert spec.licence_link
