"""Images with lasting ids, from whatever the user calls data; data sets over them; views.

`image_source` opens a path, a data set object or an array as one list of images.
"""

from __future__ import annotations

from rela_zoo.data._folders import FileSource, relative_ids
from rela_zoo.data._open import image_source
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._source import (
    ImageSource,
    UndecodableImageError,
    check_unique,
    decode,
    encode_ids,
    pixel_digest,
)

__all__ = [
    "FileSource",
    "ImageSource",
    "ParquetSource",
    "UndecodableImageError",
    "check_unique",
    "decode",
    "encode_ids",
    "image_source",
    "pixel_digest",
    "relative_ids",
]
