"""The embedding artefact on disk, format version 1.

A folder of three kinds of files, byte for byte the same for the same inputs:

* `shard-00000.safetensors`, `shard-00001.safetensors`, …: one tensor `rows`, (n, D), F16 or F32: raw outputs of the
  prior, not normalised, in the order of the ids. Metadata `rela_zoo`, JSON: `plan` (digest of what was asked for),
  `shard` (its number), `skipped` (positions in the source that have no row in this shard).
* `ids.jsonl`: one sample id a row, each an ASCII JSON string and a newline.
* `index.json`: `format`, `format_version`, `prior` (everything that changes its numbers), `preprocessing`, `layer`,
  `dtype`, `dim` D, `source` {rows, ids_sha256, probe, shard_rows} (what was asked for); then `made_by`, `rows` N, `ids`
  {file, bytes, sha256}, `shards` [{file, rows, bytes, sha256}], `skipped` (ids of images that can't be decoded),
  `digest`, of {dim, dtype, ids: sha256, prior, rows, shards: [sha256, …]}, and, where ids do not name the pixels,
  `samples`, up to 64 ids evenly spread in sorted order → {pixels, bytes}: digests of the decoded RGB pixels and of the
  encoded picture, by which anybody sees without the prior whether pictures of these names are these. Older artefacts
  have no `samples`.

A digest is the sha256 of compact ASCII JSON with sorted keys. `plan` is that of the index's keys up to `source`,
without the probe. An unfinished folder has `partial.json` (those keys) and no index, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rela_zoo._io.fields import sentence
from rela_zoo._io.install import install_command
from rela_zoo._io.safetensors_header import HeaderError, read_header
from rela_zoo._io.validation import validate
from rela_zoo.errors import EmbeddingsError

FORMAT: Literal["rela-zoo-embeddings"] = "rela-zoo-embeddings"
FORMAT_VERSION = 1
INDEX, PARTIAL, IDS = "index.json", "partial.json", "ids.jsonl"
FIX = "fetch or compute this artefact again"

# Bounds that are checked before anything is allocated: a file from elsewhere may claim any size.
MAX_JSON_BYTES = 256 << 20
MAX_ID_BYTES = 1 << 16
MAX_SAMPLES = 4096

_SHARD = re.compile(r"shard-[0-9]{5,9}\.safetensors")
_SHARD_KEYS = {"plan", "shard", "skipped"}  # of a shard's metadata
_TENSOR_DTYPES = {"float16": "F16", "float32": "F32"}

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, le=1 << 40)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRecord(_Record):
    """A file of the artefact: its name, its size in bytes and its sha256."""

    file: str
    bytes: Count
    sha256: Sha256


class ShardRecord(FileRecord):
    """A shard: its file and the number of its rows."""

    rows: Count


class SampleRecord(_Record):
    """One picture: 16 hex digits of BLAKE2b each of its decoded RGB pixels and of its bytes as they are kept."""

    pixels: Digest
    bytes: Digest


class SourceRecord(_Record):
    """What was asked for: images of the source, before any was left out."""

    rows: Count
    ids_sha256: Sha256
    probe: Sha256
    shard_rows: Annotated[int, Field(ge=1, le=1 << 32)]


class EmbedPlan(_Record):
    """Everything that decides the bytes of an artefact; a run only goes on with work done for the same plan."""

    format: Literal["rela-zoo-embeddings"]
    format_version: int
    prior: dict[str, str | int]
    preprocessing: str
    layer: str
    dtype: Literal["float16", "float32"]
    dim: Annotated[int, Field(ge=1, le=1 << 24)]
    source: SourceRecord

    def plan_digest(self) -> str:
        """sha256, hex, of the canonical JSON of the plan without the probe; every shard carries it.

        The probe sees how pictures are encoded. The rows, and so the digest of an artefact, are the same for a folder
        and for a parquet file with the same ids and pixels.
        """
        plan = self.model_dump(include=set(EmbedPlan.model_fields))
        del plan["source"]["probe"]
        return hashlib.sha256(canonical_json(plan)).hexdigest()


class Index(EmbedPlan):
    """The parsed `index.json` of a finished artefact; the module docstring explains its keys."""

    made_by: str
    rows: Count
    ids: FileRecord
    shards: tuple[ShardRecord, ...] = Field(strict=False)
    skipped: tuple[str, ...] = Field(strict=False)
    digest: Sha256
    samples: Annotated[dict[str, SampleRecord], Field(max_length=MAX_SAMPLES)] | None = None

    @property
    def plan(self) -> EmbedPlan:
        """The part that was known before the first image was read."""
        return EmbedPlan(**{name: getattr(self, name) for name in EmbedPlan.model_fields})

    @property
    def identity(self) -> dict[str, str | int]:
        """Who made the rows, for `rela_zoo.prior.check_same_prior`.

        Rows that were moved by a transport are known by it, and by the name of the prior in whose space they lie.
        """
        moved = "transport_sha256" in self.prior
        layer = {} if moved or not self.layer else {"layer": self.layer}
        return {**layer, **self.prior, "preprocessing": self.preprocessing, "dim": self.dim}

    def content_digest(self) -> str:
        """sha256, hex, of what the rows are and whose: ids, shard hashes, prior, dtype, shape. Equal to `digest`."""
        content = {
            "dim": self.dim,
            "dtype": self.dtype,
            "ids": self.ids.sha256,
            "prior": self.prior,
            "rows": self.rows,
            "shards": [shard.sha256 for shard in self.shards],
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


def shard_name(number: int) -> str:
    """File name of shard `number`, counted from 0."""
    return f"shard-{number:05d}.safetensors"


def default_shard_rows(rows: int) -> int:
    """Rows a shard, for so many in all: little is lost by a kill, and there are not too many files.

    4096 is 6.3 MB at 768 values in float16. Of more than 262,144 rows a power of two that gives at most 64 shards, up
    to 262,144: ImageNet-1k is 40 shards of 50 MB, a billion rows are 3,815 of 400 MB; the Hub takes 10,000 a folder.
    """
    return min(max(4096, 1 << (-(-rows // 64) - 1).bit_length()), 1 << 18)


def canonical_json(value: Any) -> bytes:
    """Compact ASCII JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def pretty_json(value: Any) -> bytes:
    """The bytes of a JSON file: sorted keys, two spaces, a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def row_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy dtype of stored rows."""
    return np.dtype(dtype).newbyteorder("<")


def shard_header(rows: int, dim: int, dtype: str, metadata: dict[str, Any]) -> bytes:
    """The bytes before the rows of a shard: a safetensors header of one tensor, padded to eight bytes.

    Written here and not by the safetensors library, whose order of keys is its own affair: the sha256 of a shard
    must not depend on the version of a library.
    """
    size = rows * dim * row_dtype(dtype).itemsize
    header = {
        "__metadata__": {"rela_zoo": canonical_json(metadata).decode("ascii")},
        "rows": {"dtype": _TENSOR_DTYPES[dtype], "shape": [rows, dim], "data_offsets": [0, size]},
    }
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_shard_header(path: Path, rows: int | None, dim: int, dtype: str) -> tuple[int, int, dict[str, Any]]:
    """Read and check the header of one shard, without its rows.

    Args:
        path: the shard.
        rows: how many rows the index says it has; None when there is no index yet.
        dim, dtype: what the index says.

    Returns:
        The offset of the first row in bytes, the number of rows, and the metadata.

    Raises:
        EmbeddingsError: missing, truncated, malformed, another width or dtype or number of rows.
    """
    fix = FIX
    try:
        header = read_header(path)
    except HeaderError as error:
        raise EmbeddingsError(error.what, expected=error.expected, got=error.got, fix=fix) from error
    except FileNotFoundError:
        raise EmbeddingsError(
            f"the shard {path} is missing", expected="every shard of the index", got="no such file",
            fix=f"{fix}; of a pull in part, pull the rest, or open it by open_embeddings(…, partial=True)",
        ) from None  # fmt: skip
    try:
        tensor, metadata = header.tensors["rows"], json.loads(header.metadata["rela_zoo"])
        found_rows, found_dim = (int(one) for one in tensor["shape"])
        found_dtype, (start, end) = str(tensor["dtype"]), tensor["data_offsets"]
        well_formed = set(header.tensors) == {"rows"} and start == 0 and isinstance(metadata, dict)
        well_formed = well_formed and found_rows >= 0 and found_dim > 0
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EmbeddingsError(
            f"the header of {path} is malformed",
            expected="one tensor `rows` of two dimensions, and metadata `rela_zoo`",
            got=f"{type(error).__name__}: {error}",
            fix=fix,
        ) from error
    if found_dim != dim:
        raise EmbeddingsError(
            f"{path} has rows of another width than its index says: shards of different priors are mixed",
            expected=f"{dim} values a row",
            got=found_dim,
            fix=fix,
        )
    if found_dtype != _TENSOR_DTYPES[dtype]:
        raise EmbeddingsError(f"{path} has another dtype than its index says", expected=dtype, got=found_dtype, fix=fix)
    if rows is not None and found_rows != rows:
        raise EmbeddingsError(f"{path} has another number of rows", expected=rows, got=found_rows, fix=fix)
    offset, size = header.data_start, header.file_size
    needed = offset + found_rows * dim * row_dtype(dtype).itemsize
    if not well_formed or end != needed - offset or size != needed:
        raise EmbeddingsError(
            f"{path} is {'truncated' if size < needed else 'not of the size that its header says'}",
            expected=f"{needed} bytes",
            got=f"{size} bytes",
            fix=fix,
        )
    return offset, found_rows, metadata


def has_canonical_header(path: Path, rows: int, dim: int, dtype: str) -> bool:
    """Whether a shard begins with exactly the bytes that `shard_header` gives for what its metadata says."""
    header = read_header(path)
    metadata = json.loads(header.metadata["rela_zoo"])
    return set(metadata) <= _SHARD_KEYS and shard_header(rows, dim, dtype, metadata) == header.raw


def read_index(folder: Path) -> Index:
    """Parse and check `index.json`: bounded size, known version, safe names, counts that add up, its own digest.

    Raises:
        EmbeddingsError: with what is wrong in it.
    """
    path = folder / INDEX
    fix = FIX
    if not path.is_file():
        unfinished = (folder / PARTIAL).is_file()
        raise EmbeddingsError(
            f"{folder} holds {'an unfinished extraction' if unfinished else 'no embeddings'}",
            expected=f"a folder with {INDEX}, as written by `rela-zoo embed`",
            got="no such folder" if not folder.is_dir() else f"no {INDEX}",
            fix="run the same `rela-zoo embed` again: it goes on where it stopped"
            if unfinished
            else "correct the path",
        )
    raw = read_json(path)
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or not isinstance(version, int):
        raise EmbeddingsError(f"{path} is not an index of embeddings", expected=f'"format": "{FORMAT}"', fix=fix)
    if version != FORMAT_VERSION:
        raise EmbeddingsError(
            f"{path} has a format version that this rela-zoo does not know",
            expected=FORMAT_VERSION,
            got=version,
            fix=f"a newer rela-zoo: {install_command()}" if version > FORMAT_VERSION else fix,
        )
    index, problems = validate(Index, raw)
    if index is None:
        got = "; ".join(f"{one.key}: {sentence(one)}" for one in problems[:5])
        raise EmbeddingsError(f"{path} is malformed", expected="the keys of format 1", got=got, fix=fix)
    for number, shard in enumerate(index.shards):
        if not _SHARD.fullmatch(shard.file) or shard.file != shard_name(number):
            raise EmbeddingsError(
                f"{path} names a shard in a way that is not allowed",
                expected=shard_name(number),
                got=repr(shard.file),
                fix=fix,
            )
    if index.ids.file != IDS or index.ids.bytes > index.rows * MAX_ID_BYTES:
        got = f"{index.ids.file!r} of {index.ids.bytes} bytes for {index.rows} ids"
        raise EmbeddingsError(f"{path} describes an id list that is not allowed", expected=IDS, got=got, fix=fix)
    if sum(shard.rows for shard in index.shards) != index.rows:
        total = sum(shard.rows for shard in index.shards)
        raise EmbeddingsError(f"the shards in {path} do not add up", expected=f"{index.rows} rows", got=total, fix=fix)
    if index.content_digest() != index.digest:
        raise EmbeddingsError(
            f"{path} has a wrong digest: the index was changed after it was written",
            expected=index.content_digest(),
            got=index.digest,
            fix=fix,
        )
    return index


def read_json(path: Path) -> Any:
    """Parse a JSON file of bounded size, or raise EmbeddingsError."""
    fix = FIX
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise EmbeddingsError(f"{path} is too large", expected=f"at most {MAX_JSON_BYTES} bytes", got=size, fix=fix)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EmbeddingsError(f"{path} is not JSON", expected="a whole JSON file", got=error, fix=fix) from error
