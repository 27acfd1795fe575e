"""One decoder: ordinary pictures as Pillow converts them, the others scaled, or refused by name."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rela_zoo.data import UndecodableImageError, _decode, as_rgb, decode, decode_pixels
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


def always(height: int, width: int) -> bool:
    return True


class TestPixels:
    """In an array, without Pillow in between where that changes nothing."""

    @pytest.fixture(autouse=True)
    def anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_decode, "_alike", {})

    @pytest.mark.parametrize("kind", ORDINARY)
    def test_those_of_decode(self, kind: str) -> None:
        content = ORDINARY[kind]()
        for _ in range(2):  # of the first of its layout, and of a further one
            found = decode_pixels(content, "x", always)
            assert isinstance(found, np.ndarray)
            assert np.array_equal(found, np.asarray(decode(content, "x")))

    @given(
        st.integers(8, 120), st.integers(8, 120), st.integers(20, 98), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
        st.booleans(), st.integers(0, 4), st.data(),
    )  # fmt: skip
    @settings(max_examples=60, deadline=None)
    def test_jpegs_damaged_ones_too(
        self,
        height: int,
        width: int,
        quality: int,
        sampling: str,
        progressive: bool,
        restarts: int,
        data: st.DataObject,
    ) -> None:
        coarse = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        options = {"quality": quality, "subsampling": sampling, "progressive": progressive}
        smooth = Image.fromarray(coarse).resize((width, height))
        whole = bytearray(encoded(smooth, "JPEG", restart_marker_blocks=restarts, **options))
        for place in data.draw(st.lists(st.integers(2, len(whole) - 1), max_size=3)):
            whole[place] = data.draw(st.integers(0, 255))
        content = bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
        try:
            wanted = np.asarray(decode(content, "x"))
        except UndecodableImageError:
            with pytest.raises(UndecodableImageError):
                decode_pixels(content, "x", always)
        else:
            assert np.array_equal(decode_pixels(content, "x", always), wanted)

    def test_by_simplejpeg_where_it_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        simplejpeg, asked = pytest.importorskip("simplejpeg"), []
        decode_jpeg = simplejpeg.decode_jpeg
        monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: asked.append(a) or decode_jpeg(*a, **k))
        for _ in range(3):
            decode_pixels(encoded(RGB, "JPEG"), "x", always)
        assert len(asked) == 3

    def test_left_to_pillow_where_other_pixels_are_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        simplejpeg, asked = pytest.importorskip("simplejpeg"), []
        decode_jpeg = simplejpeg.decode_jpeg

        def other(raw: bytes, *given: object, **options: object) -> np.ndarray:
            asked.append(raw)
            return decode_jpeg(raw, "RGB", fastdct=True, fastupsample=True)

        monkeypatch.setattr(simplejpeg, "decode_jpeg", other)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
        # One colour and greys come out alike whatever the decoder; believed, they would stand for the others.
        plain, greys = np.full_like(noise, 200), np.repeat(noise[..., :1] // 200 * 200, 3, axis=2)
        for pixels in (plain, greys, noise, noise, noise):
            content = encoded(Image.fromarray(pixels), "JPEG", subsampling="4:2:0")
            assert np.array_equal(decode_pixels(content, "x", always), np.asarray(decode(content, "x")))
        assert 2 <= len(asked) <= 3, "never again for its layout"

    def test_many_pictures_that_tell_little_are_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        simplejpeg, shown = pytest.importorskip("simplejpeg"), []
        assert simplejpeg
        asarray = np.asarray
        monkeypatch.setattr(_decode.np, "asarray", lambda *a, **k: shown.append(a) or asarray(*a, **k))
        grey = encoded(Image.new("RGB", (16, 16), (90, 90, 90)), "JPEG")
        for _ in range(40):
            decode_pixels(grey, "x", always)
        assert len(shown) == 16

    def test_without_simplejpeg(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
        content = encoded(RGB, "JPEG")
        assert np.array_equal(decode_pixels(content, "x", always), np.asarray(decode(content, "x")))

    def test_an_image_where_no_pixels_are_wanted(self) -> None:
        sizes = []
        for content in (encoded(RGB, "JPEG"), encoded(RGB)):
            found = decode_pixels(content, "x", lambda *size: bool(sizes.append(size)))
            assert isinstance(found, Image.Image)
            assert np.array_equal(np.asarray(found), np.asarray(decode(content, "x")))
        assert set(sizes) == {(9, 7)}

    def test_a_broken_one_is_named(self) -> None:
        with pytest.raises(UndecodableImageError, match=r"a/broken\.jpg"):
            decode_pixels(encoded(RGB, "JPEG")[:300], "a/broken.jpg", always)
