"""One decoder: ordinary pictures as Pillow converts them, the others scaled, or refused by name."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from rela_zoo.data import UndecodableImageError, as_rgb, decode
from rela_zoo.errors import EmbeddingsError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)
ALPHA = Image.fromarray(PIXELS[..., 1])


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def with_alpha() -> Image.Image:
    image = RGB.copy()
    image.putalpha(ALPHA)
    return image


ORDINARY: dict[str, Callable[[], bytes]] = {
    "rgb": lambda: encoded(RGB),
    "jpeg": lambda: encoded(RGB, "JPEG"),
    "grey": lambda: encoded(RGB.convert("L")),
    "grey jpeg": lambda: encoded(RGB.convert("L"), "JPEG"),
    "grey and alpha": lambda: encoded(with_alpha().convert("LA")),
    "alpha": lambda: encoded(with_alpha()),
    "palette": lambda: encoded(RGB.convert("P")),
    "palette with a transparent colour": lambda: encoded(RGB.convert("P"), transparency=3),
    "palette with alpha": lambda: encoded(with_alpha().quantize(32, method=Image.Quantize.FASTOCTREE)),
    "bits": lambda: encoded(RGB.convert("1")),
    "cmyk": lambda: encoded(RGB.convert("CMYK"), "JPEG"),
    "cmyk tiff": lambda: encoded(RGB.convert("CMYK"), "TIFF"),
    "webp": lambda: encoded(with_alpha(), "WEBP"),
    "bmp": lambda: encoded(RGB, "BMP"),
    "gif": lambda: encoded(RGB, "GIF"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_pictures_are_what_pillow_makes_of_them(kind: str) -> None:
    content = ORDINARY[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = Image.open(io.BytesIO(content)).convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(content, "x")
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_lossless_pixels_come_back() -> None:
    np.testing.assert_array_equal(np.asarray(decode(encoded(RGB), "x")), PIXELS)
    # Alpha is dropped: what lies under it shows.
    np.testing.assert_array_equal(np.asarray(decode(encoded(with_alpha()), "x")), PIXELS)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", "uint16"), ("TIFF", "uint16"), ("TIFF", "int32"), ("PPM", "uint16")]
)
def test_sixteen_bits_are_scaled_not_clipped(kind: str, dtype: str) -> None:
    eight = PIXELS[..., 0]
    sixteen = Image.fromarray((eight.astype(dtype)) * 257)
    found = np.asarray(decode(encoded(sixteen, kind), "x"))
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], eight)


def test_all_of_sixteen_bits() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for image in (
        Image.fromarray(values),
        Image.fromarray(values.astype(np.int32)),
        Image.fromarray(values.astype(">u2")),
    ):
        np.testing.assert_array_equal(np.asarray(as_rgb(image))[..., 1], values // 256)


def test_twelve_bits_of_a_tiff() -> None:
    # Two pixels in three bytes, uncompressed, by hand: 0x123 and 0xFED.
    data = bytes([0x12, 0x3F, 0xED])
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(data))]
    entries = b"".join(
        tag.to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    content = b"II*\0" + (8 + len(data) + 1).to_bytes(4, "little") + data + b"\0" + directory
    assert np.asarray(decode(content, "x"))[0, :, 0].tolist() == [0x12, 0xFE]


@pytest.mark.parametrize("values", [[[-1, 5]], [[0, 65536]]])
def test_integers_of_unknown_range_are_refused(values: list[list[int]]) -> None:
    image = Image.fromarray(np.array(values, np.int32))
    with pytest.raises(UndecodableImageError, match=r"a/b\.tif has pixels of 32 bits"):
        decode(encoded(image, "TIFF"), "a/b.tif")


def test_floating_point_is_refused() -> None:
    image = Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4))
    with pytest.raises(UndecodableImageError, match=r"a/b\.tif has floating-point pixels") as caught:
        decode(encoded(image, "TIFF"), lambda: "a/b.tif")
    assert caught.value.expected
    assert caught.value.fix


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert decode(content, "x").getpixel((2, 2)) == (200, 0, 0)


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    content = encoded(RGB, "JPEG", exif=exif, quality=95)
    assert decode(content, "x").size == RGB.size == (7, 9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "sixteen"])
def test_a_file_that_is_cut_short_is_named(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if kind == "sixteen":
        whole = encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 257))
    else:
        whole = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UndecodableImageError, match=r"the image a/broken\.jpg can't be decoded") as caught:
        decode(whole[: len(whole) // 2], "a/broken.jpg")
    assert f"{len(whole) // 2} bytes" in str(caught.value.got)
    assert "--skip-undecodable" in str(caught.value.fix)


def test_no_picture_at_all() -> None:
    for content in (b"", b"no picture", bytes([0, 5, 22, 7]) + bytes(100)):
        with pytest.raises(UndecodableImageError, match="x can't be decoded"):
            decode(content, "x")


def test_too_little_memory_is_no_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(EmbeddingsError, match="too little memory to decode the image x") as caught:
        decode(b"", "x")
    assert not isinstance(caught.value, UndecodableImageError)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "RGBA", "RGBa", "P", "PA", "1", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_every_mode_of_an_image_at_hand(mode: str) -> None:
    image = (
        RGB.convert("RGBA").convert(mode)
        if mode in ("RGBa", "PA")
        else RGB.convert("LA").convert("La")
        if mode == "La"
        else RGB.convert(mode)
    )
    found = as_rgb(image)
    assert (found.mode, found.size) == ("RGB", RGB.size)
    assert as_rgb(RGB) is RGB
