"""Images with lasting ids, from whatever the user calls data; data sets over them; views.

`image_source` opens a path, a data set object or an array as one list of images, and everything else stands on it:
`rela_zoo.data.datasets` (torch data sets), `.decoded` (images in memory), `.views` (random views), `.batch_views` (of a
batch, on its device), `.statistics` (facts about public data sets).
"""

from __future__ import annotations

from rela_zoo.data._decode import UndecodableImageError, as_rgb, decode, decode_pixels
from rela_zoo.data._folders import FileSource, relative_ids
from rela_zoo.data._open import image_source
from rela_zoo.data._parquet import ParquetSource
from rela_zoo.data._patterns import is_there
from rela_zoo.data._source import (
    ImageSource,
    LeftOut,
    Stamps,
    check_unique,
    content_digest,
    encoded_ids,
    ids_sha256,
    pixel_digest,
)
from rela_zoo.data._undecodable import readable, undecodable, without

__all__ = [
    "FileSource",
    "ImageSource",
    "LeftOut",
    "ParquetSource",
    "Stamps",
    "UndecodableImageError",
    "as_rgb",
    "check_unique",
    "content_digest",
    "decode",
    "decode_pixels",
    "encoded_ids",
    "ids_sha256",
    "image_source",
    "is_there",
    "pixel_digest",
    "readable",
    "relative_ids",
    "undecodable",
    "without",
]
