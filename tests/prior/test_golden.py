"""Priors from the package index, where they are installed, on two real photos."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from rela_zoo.networks.thin_resnet import ThinResNet50
from rela_zoo.prior import find_weights, load_prior, read_weights
from rela_zoo.prior.families import family_of
from rela_zoo.registry import prior_spec

PALACE, DAISY, HONEYCOMB = 698, 985, 599


def skip_unless_installed(name: str) -> None:
    wanted = prior_spec(name).package
    assert wanted is not None
    try:
        found = distribution(wanted.distribution).version == wanted.version
    except PackageNotFoundError:
        found = False
    if not found:
        pytest.skip(f"not installed: {wanted.pip_command()}")


@pytest.mark.parametrize(
    ("number", "classes", "shares"),
    [
        (0, (PALACE, DAISY), (0.298, 0.323)),
        # The flower is a dahlia, which ImageNet does not have, and its florets make a honeycomb.
        (1, (PALACE, HONEYCOMB), (0.554, 0.038)),
        (2, (PALACE, HONEYCOMB), (0.378, 0.333)),
    ],
)
def test_the_classifier_of_the_same_file_knows_what_is_on_the_photos(number, classes, shares):
    """Weights, their names and the preprocessing are right together, or the classes are not."""
    name = f"imagenet1k-efficientnet-lite{number}"
    skip_unless_installed(name)
    prior = load_prior(name, strict=True)
    path = find_weights(prior.spec).path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == prior.identity()["weights_sha256"]
    whole = timm.create_model(prior.spec.architecture).eval()
    whole.load_state_dict(family_of(prior.spec).to_own_names(whole, read_weights(path)), strict=True)
    photos = [Image.fromarray(np.asarray(one)) for one in load_sample_images().images]
    batch = torch.stack([prior.transform(photo) for photo in photos])
    rows = prior(batch)
    assert rows.shape == (2, 1280)
    with torch.no_grad():
        found = whole.classifier(rows).softmax(1)
        torch.testing.assert_close(whole(batch).softmax(1), found)
    assert tuple(found.argmax(1).tolist()) == classes
    assert found.max(1).values.tolist() == pytest.approx(shares, abs=0.01)


def test_open_nsfw_finds_the_photos_as_harmless_as_onnx_runtime_does():
    """Its own preparation of an image (squashed to 256×256), and what ONNX Runtime 1.32 made of it."""
    skip_unless_installed("open-nsfw")
    prior = load_prior("open-nsfw", strict=True)
    whole = ThinResNet50(2).eval()
    state = read_weights(find_weights(prior.spec).path)
    whole.load_state_dict(family_of(prior.spec).to_own_names(whole, state), strict=True)
    photos = [Image.fromarray(one).resize((256, 256), Image.Resampling.BILINEAR) for one in load_sample_images().images]
    batch = torch.stack([prior.transform(photo) for photo in photos])
    with torch.no_grad():
        found = whole(batch).softmax(1)
        torch.testing.assert_close(whole.fc(prior(batch)).softmax(1), found)
    assert found[:, 1].tolist() == pytest.approx([2.2101633e-06, 0.00154055], rel=1e-3)
