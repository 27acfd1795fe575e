"""Every entry against timm: its architecture exists, takes its input, and gives as many features as it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from rela_zoo.networks.cifar_resnet import with_cifar_stem
from rela_zoo.prior import _build
from rela_zoo.registry import packaged_priors

SPECS = [spec for spec in packaged_priors() if spec.family in ("timm", "cifar-resnet", "open-nsfw")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_architecture_input_and_dim(spec):
    network = _build.build(spec, device="meta")
    assert not network.training
    size = spec.preprocessing.input_size
    assert _build.feature_dim(network, size, "meta") == spec.dim


def test_every_packaged_entry_is_covered():
    left = {spec.id for spec in packaged_priors()} - {spec.id for spec in SPECS}
    assert left == {"yolov9"}


@pytest.mark.parametrize(
    ("name", "width"),
    [("clip-vit-b32", 768), ("clip-vit-b16", 768), ("clip-vit-l14", 1024), ("clip-rn50", 2048), ("clip-rn50x4", 2560)],
)
def test_features_of_clip_before_the_projection(name, width):
    spec = next(spec for spec in SPECS if spec.id == name)
    pooled = spec.model_copy(update={"layer": "pooled", "dim": width})
    size = spec.preprocessing.input_size
    assert _build.feature_dim(_build.build(pooled, device="meta"), size, "meta") == width


@pytest.mark.parametrize("spec", [s for s in SPECS if s.stem == "cifar"], ids=lambda spec: spec.id)
def test_the_cifar_stem(spec):
    network = _build.build(spec, device="meta")
    assert network.conv1.kernel_size == (3, 3)
    assert network.conv1.stride == (1, 1)
    assert network.conv1.padding == (spec.stem_padding,) * 2
    assert isinstance(network.maxpool, torch.nn.Identity)


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-b16", "clip-vit-l14"])
def test_openai_towers_are_built_with_quickgelu(name):
    network = _build.build(next(spec for spec in SPECS if spec.id == name), device="meta")
    x = torch.linspace(-4, 4, 101)
    for block in network.blocks:
        torch.testing.assert_close(block.mlp.act(x), x / (1 + torch.exp(-1.702 * x)))
        assert (block.mlp.act(x) - torch.nn.functional.gelu(x)).abs().max() > 0.01


@pytest.mark.parametrize("spec", [s for s in SPECS if s.family == "timm" and s.has_weights], ids=lambda s: s.id)
def test_a_file_in_timm_layout_fits(spec):
    """Shapes only: the tensors of timm's own network, with classifier and native input size, find their places."""
    with torch.device("meta"):
        kwargs = {key: value for key, value in spec.model_args.items() if key != "img_size"}
        classes = spec.dim if spec.layer == "projection" else 11
        published = timm.create_model(spec.architecture, num_classes=classes, **kwargs)
    if spec.stem == "cifar":
        published.to_empty(device="meta")
        with_cifar_stem(published, padding=spec.stem_padding).to("meta")
    network = _build.build(spec, device="meta")
    state = _build.align(spec, network, dict(published.state_dict()), Path("model.safetensors"))
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("spec", [s for s in SPECS if s.layer == "projection"], ids=lambda s: s.id)
def test_the_projection_is_as_wide_as_the_published_one(spec):
    """The network is built with `dim` outputs here, so its own width proves nothing: ask timm about the release."""
    assert timm.get_pretrained_cfg(f"{spec.architecture}.openai").num_classes == spec.dim


@pytest.mark.parametrize("spec", [s for s in SPECS if s.dense is not None], ids=lambda s: s.id)
def test_the_map_before_pooling_is_as_large_as_it_says(spec):
    size = spec.preprocessing.input_size
    network, image = _build.build(spec, device="meta"), torch.zeros(1, 3, size, size, device="meta")
    with torch.no_grad():
        features = network.forward_intermediates(image, indices=1, intermediates_only=True, output_fmt="NCHW")[-1]
        # Counted independently: tokens without the prefix, or the last feature map.
        plain = network.forward_features(image)
    assert tuple(features.shape) == (1, spec.dense.dim, spec.dense.grid, spec.dense.grid)
    if plain.ndim == 3:
        assert plain.shape[1] - network.num_prefix_tokens == spec.dense.grid**2


def test_every_network_of_timm_says_its_map():
    without = {s.id for s in SPECS if s.family == "timm" and s.has_weights and s.dense is None}
    assert all(s.stem == "cifar" for s in SPECS if s.id in without), without


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if any("timm 1.0.31's own table" in one for one in s.notes)], ids=lambda s: s.id
)
def test_entries_that_rest_on_timms_table_say_what_it_says(spec):
    config = timm.get_pretrained_cfg(spec.repo.removeprefix("timm/"))
    own = spec.preprocessing
    assert config.hf_hub_id == spec.repo
    assert config.architecture == spec.architecture
    assert (config.license if config.license in ("apache-2.0", "mit") else "other") == spec.licence
    assert config.input_size == (3, own.input_size, own.input_size)
    assert own.resize == int(own.input_size / config.crop_pct)
    assert (config.interpolation, config.crop_mode) == (own.interpolation, own.crop_mode)
    assert (config.mean, config.std) == (own.mean, own.std)
    assert any("LICENCE" in note for note in spec.notes) == (spec.licence == "other")
