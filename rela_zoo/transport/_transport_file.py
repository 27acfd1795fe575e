"""A transport's file: the header read without trusting it, tensors read after that, and an atomic write."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rela_zoo._io.files import atomic_write
from rela_zoo._io.install import install_command
from rela_zoo._io.safetensors_header import HeaderError, read_header
from rela_zoo.errors import TransportError

TARGET_FORMAT = "rela-zoo-target-transport"
PRIOR_FORMAT = "rela-zoo-prior-transport"
FORMAT_VERSION = 1
FIX = "fetch it again, or fit it again: `rela-zoo transport fit`"
MAX_DIM = 1 << 16


def read_metadata(path: Path, *kinds: str) -> dict[str, Any]:
    """Check the header without trusting it: sizes before anything is allocated, then kind, version and shapes.

    Args:
        path: the file.
        kinds: formats that are wanted.

    Raises:
        TransportError: missing, truncated, of another kind or of a newer format.
    """
    try:
        header = read_header(path)
    except HeaderError as error:
        raise TransportError(error.what, expected=error.expected, got=error.got, fix=FIX) from error
    except OSError as error:
        raise TransportError(
            f"{path} can't be read", expected="a file written by `rela-zoo transport fit`", got=error.strerror,
            fix="correct the path",
        ) from error  # fmt: skip
    try:
        metadata = json.loads(header.metadata["rela_zoo"])
        kind, version = metadata["format"], metadata["format_version"]
        shapes = [tuple(tensor["shape"]) for tensor in header.tensors.values()]
        end = max(tensor["data_offsets"][1] for tensor in header.tensors.values())
        too_large = any(len(shape) > 2 or not all(0 <= n <= MAX_DIM for n in shape) for shape in shapes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TransportError(
            f"{path} does not hold a transport",
            expected="a safetensors file with metadata `rela_zoo`",
            got=f"{type(error).__name__}: {error}",
            fix=FIX,
        ) from error
    if kind not in kinds:
        raise TransportError(f"{path} is an artefact of another kind", expected=" or ".join(kinds), got=kind, fix=FIX)
    if version != FORMAT_VERSION:
        raise TransportError(
            f"{path} has a format version that this rela-zoo does not know",
            expected=FORMAT_VERSION,
            got=version,
            fix=f"a newer rela-zoo: {install_command()}",
        )
    size, wanted = header.file_size, header.data_start + end
    if too_large or size != wanted:
        raise TransportError(
            f"{path} is {'truncated' if size < wanted else 'not of the size that its header says'}",
            expected=f"{wanted} bytes, at most {MAX_DIM} values a side",
            got=f"{size} bytes, shapes {shapes}",
            fix=FIX,
        )
    return dict(metadata)


def transport_kind(path: str | os.PathLike[str]) -> Literal["target", "prior"]:
    """Which of the two artefacts a file holds: a `TargetTransport` or a `PriorTransport`.

    Raises:
        TransportError: neither.
    """
    found = read_metadata(Path(path).expanduser(), TARGET_FORMAT, PRIOR_FORMAT)["format"]
    return "target" if found == TARGET_FORMAT else "prior"


def check_source(path: Path, facts: Any) -> None:
    """Check what every kind says of the rows that it was fitted on: their number, digest, prior and preprocessing."""
    rows = facts.get("rows") if isinstance(facts, dict) else None
    if not isinstance(rows, int) or rows < 2:
        raise TransportError(f"{path} has an impossible number of rows", expected="at least 2", got=rows, fix=FIX)
    for name in ("source_digest", "prior", "preprocessing"):
        if not isinstance(facts.get(name), str | None):
            raise TransportError(f"{path} has a malformed {name}", expected="text or nothing", got=facts[name], fix=FIX)


def read_identity(path: Path, found: Any) -> dict[str, str | int] | None:
    """The identity of a prior as a file says it; None where it says none.

    Raises:
        TransportError: it is no mapping of names to texts and numbers.
    """
    if found is None:
        return None
    if not isinstance(found, dict) or not all(isinstance(one, str | int) for one in found.values()):
        raise TransportError(f"{path} has a malformed identity", expected="texts and numbers", got=found, fix=FIX)
    return found


def known_identity(
    identity: Mapping[str, str | int] | None, prior: str | None, preprocessing: str | None
) -> dict[str, str | int]:
    """An identity; of files that have none, what they say: a name and a preprocessing."""
    if identity is not None:
        return dict(identity)
    said = {"id": prior, "preprocessing": preprocessing}
    return {name: value for name, value in said.items() if value}


def read_tensors(path: Path, names: set[str]) -> dict[str, Tensor]:
    """All tensors of a file whose header has been checked, on the CPU; those kept in half precision as float32.

    Raises:
        TransportError: damaged, or with other tensors than `names`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TransportError(f"{path} is damaged", expected="a whole safetensors file", got=error, fix=FIX) from error
    if set(tensors) != names:
        raise TransportError(f"{path} does not hold a transport", expected=sorted(names), got=sorted(tensors), fix=FIX)
    return {name: one.float() if one.dtype == torch.float16 else one for name, one in tensors.items()}


def halved(path: Path, name: str, values: Tensor) -> Tensor:
    """Values (D, E) in float16, for a file of half the size.

    Raises:
        TransportError: values too large for it.
    """
    half = values.half()
    if not torch.isfinite(half).all():
        raise TransportError(
            f"{path} can't be written in half precision", expected=f"{name} up to 65504",
            got=float(values.abs().max()), fix="write it in full: half=False",
        )  # fmt: skip
    return half


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write one file under another name and rename it; equal content gives equal bytes.

    Raises:
        TransportError: the path can't be written.
    """
    from safetensors.torch import save

    ready = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    encoded = save(ready, {"rela_zoo": json.dumps(metadata, sort_keys=True, separators=(",", ":"))})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, encoded)
    except OSError as error:
        raise TransportError(
            f"{path} can't be written", expected="a path in a folder with room", got=error, fix="give another path"
        ) from error
