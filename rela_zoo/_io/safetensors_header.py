"""The header of a safetensors file, read before anything else of it is trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rela_zoo.errors import RelaZooError

# The header of the largest network in reach is well under a megabyte; the format itself allows a hundred.
MAX_HEADER_BYTES = 16 << 20


class HeaderError(RelaZooError):
    """A file does not begin with a header of safetensors. Each room raises it again as its own error."""


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a file says of itself: parsed, not checked.

    Attributes:
        file_size: bytes of the whole file.
        raw: the bytes up to the first tensor, the eight of the length included.
        tensors: name → `dtype`, `shape` and `data_offsets`, or whatever else stands there.
        metadata: the entry `__metadata__`; empty without one.
    """

    file_size: int
    raw: bytes
    tensors: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def data_start(self) -> int:
        """Offset of the first tensor's first byte, which `data_offsets` count from."""
        return len(self.raw)


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header alone; its length is checked before anything of that size is allocated.

    Raises:
        HeaderError: cut short, too long, or no JSON object.
        OSError: it can't be read.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy, safetensors.numpy
        >>> path = Path(mkdtemp()) / "x.safetensors"
        >>> safetensors.numpy.save_file({"a": numpy.zeros((2, 3), "float32")}, path)
        >>> read_header(path).tensors
        {'a': {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24]}}
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise HeaderError(
                f"{path} is no safetensors file, or is cut short in its header",
                expected=f"a header of at most {min(max(size - 8, 0), MAX_HEADER_BYTES)} bytes",
                got=f"{length} bytes announced in a file of {size} bytes",
            )
        if length > MAX_HEADER_BYTES:
            raise HeaderError(
                f"the header of {path} is too long", expected=f"at most {MAX_HEADER_BYTES} bytes", got=f"{length} bytes"
            )
        text = file.read(length)
    try:
        tensors = json.loads(text)
        metadata = tensors.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise TypeError("__metadata__ is no object")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise HeaderError(
            f"{path} is no safetensors file, or is damaged: its header is malformed", expected="a JSON object",
            got=f"{type(error).__name__}: {error}",
        ) from error  # fmt: skip
    return SafetensorsHeader(size, start + text, tensors, metadata)
