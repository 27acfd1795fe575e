from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rela_zoo.errors import RelaZooError
from rela_zoo.prior import ImageTransform
from rela_zoo.prior._preprocessing import reference_preprocessing
from rela_zoo.registry import Preprocessing

PLAIN = Preprocessing(input_size=8, resize=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def slow_transform(image: Image.Image, p: Preprocessing) -> np.ndarray:
    """Resize, crop and normalise with PIL and NumPy only."""
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    width, height = image.size
    short = min(width, height)
    new = (int(p.resize * width / short), int(p.resize * height / short))
    out = image.resize(new, filters[p.interpolation])
    left, top = (round((side - p.input_size) / 2) for side in out.size)
    out = out.crop((left, top, left + p.input_size, top + p.input_size))
    pixels = np.asarray(out, dtype=np.float64) / 255
    return ((pixels - np.array(p.mean)) / np.array(p.std)).transpose(2, 0, 1)


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(5, 60), height=st.integers(5, 60), size=st.integers(4, 24), extra=st.integers(0, 8),
    filter_=st.sampled_from(["bilinear", "bicubic"]),
)  # fmt: skip
def test_equals_pil_and_numpy(width, height, size, extra, filter_):
    pixels = np.random.default_rng(width * 61 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    p = Preprocessing(
        input_size=size, resize=size + extra, interpolation=filter_, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    image = Image.fromarray(pixels)
    out = ImageTransform(p)(image)
    assert out.shape == (3, size, size)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), slow_transform(image, p), atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(image, mode):
    out = ImageTransform(PLAIN)(image.convert(mode))
    assert out.shape == (3, 8, 8)


def test_grey_is_repeated(image):
    red, green, blue = ImageTransform(PLAIN)(image.convert("L"))
    assert torch.equal(red, green)
    assert torch.equal(red, blue)


def test_sixteen_bits_are_those_of_the_eight_bit_image():
    eight = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    sixteen = Image.fromarray(eight.astype(np.uint16) * 257)
    assert torch.equal(ImageTransform(PLAIN)(sixteen), ImageTransform(PLAIN)(Image.fromarray(eight)))


def test_floating_point_images_are_refused():
    with pytest.raises(RelaZooError, match="floating-point"):
        ImageTransform(PLAIN)(Image.fromarray(np.zeros((4, 4), dtype=np.float32)))


def test_a_long_strip_needs_little_memory():
    """60,000 × 1 pixels, resized as a whole, would be 13 million pixels wide: 12 GB."""
    preprocessing = PLAIN.model_copy(update={"input_size": 224, "resize": 256}).model_dump()
    program = f"""
import resource
from PIL import Image
from rela_zoo.prior import ImageTransform
from rela_zoo.registry import Preprocessing
transform = ImageTransform(Preprocessing(**{preprocessing}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = transform(Image.new("RGB", (60000, 1), (9, 99, 199)))
assert pixels.shape == (3, 224, 224)
assert pixels.flatten(1).std(1).max() < 1e-6
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 200  # MB


def test_the_reference_resizes_to_the_input_and_uses_imagenet_statistics():
    clip = Preprocessing(input_size=288, resize=320, interpolation="bicubic", mean=(0.4,) * 3, std=(0.2,) * 3)
    assert reference_preprocessing(clip) == Preprocessing(
        input_size=288, resize=288, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_the_digest_changes_with_every_parameter():
    changes = [{"input_size": 7}, {"resize": 9}, {"interpolation": "bicubic"}, {"mean": (0, 0, 1)}, {"std": (1, 1, 2)}]
    digests = {ImageTransform(PLAIN.model_copy(update=change)).digest() for change in ({}, *changes)}
    assert len(digests) == 6
    assert ImageTransform(PLAIN).digest() == ImageTransform(PLAIN.model_copy()).digest()


def test_halves_make_the_whole_bit_for_bit():
    """uint8 by a worker, the rest for a whole batch: every value as torchvision gives it."""
    import torchvision.transforms.functional as F

    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for mean, std in (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.1, 0.9), (0.3, 1 / 3, 0.7))):
        p = Preprocessing(input_size=16, resize=16, interpolation="bicubic", mean=mean, std=std)
        transform = ImageTransform(p)
        pixels = transform.pixels(Image.fromarray(values))
        assert pixels.dtype == torch.uint8
        wanted = F.normalize(F.pil_to_tensor(Image.fromarray(values)).to(torch.float32) / 255, list(mean), list(std))
        assert torch.equal(transform(Image.fromarray(values)), wanted)
        assert torch.equal(transform.normalise(pixels.expand(5, 3, 16, 16)), wanted.expand(5, 3, 16, 16))
        with torch.inference_mode():
            transform.normalise(pixels)
        assert torch.equal(transform.normalise(pixels), wanted), "constants of inference mode are of use outside of it"
