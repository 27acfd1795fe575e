"""From encoded bytes to an RGB image of 8 bits: one decoder for every command."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS_PER_SAMPLE = 258  # tag of TIFF

# For each layout of JPEG that has been met: in how many pictures simplejpeg has given Pillow's pixels, −1 where it has
# given others. It is believed after one picture with differences of brightness and of colour, or after many without.
_alike: dict[object, int] = {}
_ENOUGH, _VARIED = 16, 4.0


class UndecodableImageError(EmbeddingsError):
    """One image of a source can't be decoded; the message names it."""


def decode(encoded: bytes, name: object) -> Image:
    """Bytes of a picture → RGB image of 8 bits a channel, of the size stored.

    The first frame of an animation counts. EXIF orientation is not applied: embeddings and views see the pixels as
    they are stored, as training with torchvision's loaders does, and what was embedded before stays the same.

    Args:
        encoded: of any format that Pillow opens.
        name: for the error; a function is called for it.

    Raises:
        UndecodableImageError: no picture, cut short, or of pixels without a known range; the message names it.
        EmbeddingsError: too little memory.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            # A copy: the pixels of an opened file are read when they are first asked for.
            return as_rgb(picture.copy() if picture.mode == "RGB" else picture, name)
    except UndecodableImageError:
        raise
    except MemoryError as error:
        raise EmbeddingsError(
            f"there is too little memory to decode the image {_named(name)}",
            got=f"{len(encoded)} bytes encoded",
            fix="make it smaller, or use fewer workers",
        ) from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes: OSError, struct.error, …
        raise UndecodableImageError(
            f"the image {_named(name)} can't be decoded",
            expected="a picture that Pillow opens",
            got=f"{len(encoded)} bytes; {type(error).__name__}: {error}",
            fix="repair or remove it, or leave such images out with on_error='skip' (--skip-undecodable; "
            "data.on_error=skip)",
        ) from error


def decode_pixels(encoded: bytes, name: object, wanted: Callable[[int, int], bool]) -> Image | np.ndarray:
    """As `decode`, but in an array (H, W, 3) uint8, not to be written to, where that is wanted.

    With simplejpeg an RGB JPEG gets there without Pillow's copies in between, which take a third of the time.

    Args:
        encoded, name: as for `decode`.
        wanted: whether the pixels of a picture of this height and width are; else there is an image of Pillow's.

    Raises:
        UndecodableImageError, EmbeddingsError: as `decode`.
    """
    pixels = _of_jpeg(encoded, wanted)
    if pixels is not None:
        return pixels
    image = decode(encoded, name)
    return np.asarray(image) if wanted(image.height, image.width) else image


def _of_jpeg(encoded: bytes, wanted: Callable[[int, int], bool]) -> np.ndarray | None:
    """An RGB JPEG's pixels by simplejpeg; None for whatever is Pillow's business: all else, and what is damaged."""
    if not encoded.startswith(b"\xff\xd8"):
        return None
    try:
        import simplejpeg
        from PIL import Image

        with Image.open(io.BytesIO(encoded)) as picture:  # reads the header
            if (picture.format, picture.mode) != ("JPEG", "RGB") or not wanted(picture.height, picture.width):
                return None
            sampling = tuple(part[1:3] for part in getattr(picture, "layer", ()))
            layout = sampling, "progressive" in picture.info
            known = _alike.get(layout, 0)
            if known < 0:
                return None
            pixels: np.ndarray = simplejpeg.decode_jpeg(encoded, "RGB", fastdct=False, fastupsample=False, strict=True)
            if known < _ENOUGH:
                same = np.array_equal(pixels, np.asarray(picture))
                _alike[layout] = -1 if not same else _ENOUGH if _tells(pixels) else known + 1
            return None if _alike[layout] < 0 else pixels
    except Exception:  # without simplejpeg, too; whoever decodes it by Pillow says what is wrong with it, if anything
        return None


def _tells(pixels: np.ndarray) -> bool:
    """Whether another decoder would give other pixels: there are differences of brightness and of colour in them."""
    brightness, colour = pixels[..., 1].astype(np.float32), pixels[..., 0] - pixels[..., 1].astype(np.float32)
    return min(brightness.std(), colour.std()) >= _VARIED


def as_rgb(image: Image, name: object = "given") -> Image:
    """Any PIL image → RGB of 8 bits a channel; an RGB image comes back as it is.

    Grey is repeated; of 16 bits the upper 8 are taken; palettes are resolved; CMYK is converted as by Pillow; alpha is
    dropped, so that transparent pixels show the colour stored under them.

    Args:
        image: of any mode.
        name: for the error; a function is called for it.

    Raises:
        UndecodableImageError: floating-point pixels, or integers of more than 16 bits: their range is not known.

    Examples:
        >>> from PIL import Image
        >>> as_rgb(Image.new("I;16", (1, 1), 0x8040)).getpixel((0, 0))
        (128, 128, 128)
    """
    mode = image.mode
    if mode == "RGB":
        return image
    if mode.startswith("I"):
        return _from_integers(image, name)
    if mode == "F":
        raise UndecodableImageError(
            f"the image {_named(name)} has floating-point pixels, whose range is not known",
            expected="8 or 16 bits a channel",
            got="mode F",
            fix="scale its values to 0 … 255 and save it as PNG",
        )
    if mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns of every such image
    elif mode in ("La", "RGBa"):  # alpha multiplied in
        image = image.convert(f"{mode[:-1]}A")
    return image.convert("RGB")


def _from_integers(image: Image, name: object) -> Image:
    """Grey of up to 16 bits → RGB. Pillow itself would clip at 255 in place of scaling."""
    from PIL import Image

    image.load()  # here, for NumPy hides what goes wrong in it
    values = np.asarray(image)
    if values.dtype.itemsize > 2 and (int(values.min()) < 0 or int(values.max()) > 0xFFFF):
        raise UndecodableImageError(
            f"the image {_named(name)} has pixels of 32 bits, whose range is not known",
            expected="8 or 16 bits a channel",
            got=f"mode {image.mode}, values from {int(values.min())} to {int(values.max())}",
            fix="scale its values to 0 … 255 and save it as PNG",
        )
    bits = 12 if getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (12,) else 16
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8)).convert("RGB")


def _named(name: object) -> str:
    return str(name()) if callable(name) else str(name)
