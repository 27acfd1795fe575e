"""Weight files inside installed packages: found without importing anything, checked, kept as safetensors.

Such a file is a pickle, or ONNX. It is read once, and only after its hash was found right; a pickle by torch's
restricted unpickler.
"""

from __future__ import annotations

import hashlib
import io
import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rela_zoo._io.files import atomic_write
from rela_zoo._io.log import logger
from rela_zoo._io.once import made_once
from rela_zoo.errors import EmbeddingsError, WeightsError
from rela_zoo.prior._onnx import read_onnx
from rela_zoo.prior._places import converted_path
from rela_zoo.registry import PackageFile, PriorSpec

_log = logger(__name__)

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def weights_of_package(spec: PriorSpec) -> Path:
    """The safetensors made from the file of a `package` entry; made now if they were not yet.

    Raises:
        WeightsError: the package is not installed, is another version, lacks the file, or has another one; the file
            holds anything but tensors; or there is no place for the safetensors.
    """
    path = converted_path(spec)
    try:
        made_once(path, lambda: _convert(spec, path), what="weights")
    except EmbeddingsError as error:
        raise WeightsError(error.what, expected=error.expected, got=error.got, fix=error.fix) from error
    return path


def _convert(spec: PriorSpec, path: Path) -> None:
    assert spec.package is not None  # demanded of every such entry
    source = find_in_package(spec, spec.package)
    data = to_safetensors(read_checked(spec, spec.package, source), source)
    got = hashlib.sha256(data).hexdigest()
    if got != spec.sha256:
        raise WeightsError(
            f"the weights of {spec.id!r} are not those of its entry",
            expected=f"sha256 {spec.sha256} of the safetensors made from {source}",
            got=f"sha256 {got}",
            fix="correct `sha256` in the entry: it is of the safetensors, `package.sha256` of the file in the package",
        )
    atomic_write(path, data)
    _log.info("weights of %s: %s kept as %s", spec.id, source, path)


def find_in_package(spec: PriorSpec, wanted: PackageFile) -> Path:
    """The file inside the installed package.

    Raises:
        WeightsError: not installed, another version, or without the file.
    """
    found = _installed(wanted)
    if found is None:
        raise WeightsError(f"the weights of {spec.id!r} are not installed", fix=wanted.pip_command())
    if found.version != wanted.version:
        raise WeightsError(
            f"the package with the weights of {spec.id!r} is another version",
            expected=f"{wanted.distribution} {wanted.version}",
            got=found.version,
            fix=wanted.pip_command(),
        )
    path = Path(str(found.locate_file(wanted.file)))
    if not path.is_file():
        raise WeightsError(
            f"the package with the weights of {spec.id!r} is incomplete",
            expected=str(path),
            got="nothing there",
            fix=wanted.pip_command("--force-reinstall"),
        )
    return path


def _installed(wanted: PackageFile) -> Distribution | None:
    try:
        return distribution(wanted.distribution)
    except PackageNotFoundError:
        return None


def read_checked(spec: PriorSpec, wanted: PackageFile, path: Path) -> dict[str, Tensor]:
    """Tensors of the file, by name; nothing is unpickled before the hash was found right.

    Raises:
        WeightsError: another file, or one that is no state dict of plain tensors.
    """
    data = path.read_bytes()
    got = hashlib.sha256(data).hexdigest()
    if got != wanted.sha256:
        raise WeightsError(
            f"{path} is not the weight file of {spec.id!r}",
            expected=f"sha256 {wanted.sha256}",
            got=f"sha256 {got}",
            fix=wanted.pip_command("--force-reinstall"),
        )
    return _of_onnx(data, path) if path.suffix == ".onnx" else _of_pickle(data, path)


def _of_onnx(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return read_onnx(data)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is refused", expected="an ONNX graph with float32 weights", got=str(error),
            fix="an entry must name a file of plain weights",
        ) from None  # fmt: skip


def _of_pickle(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a pickle can make the restricted unpickler raise
        raise _no_state(
            path, f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
        ) from None
    if not isinstance(state, dict) or not state:
        raise _no_state(path, type(state).__name__)
    for name, value in state.items():
        plain = isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
        if not plain or value.dtype not in _DTYPES or value.device.type != "cpu":
            kind = f"{value.dtype} {value.layout}" if isinstance(value, Tensor) else type(value).__name__
            raise _no_state(path, f"{name!r}: {kind}")
    return state


def _no_state(path: Path, got: str) -> WeightsError:
    return WeightsError(
        f"{path} is refused",
        expected="a state dict of tensors, read by torch's restricted unpickler (weights_only=True)",
        got=got,
        fix="an entry must name a file of plain weights",
    )


def to_safetensors(state: dict[str, Tensor], path: Path) -> bytes:
    """Tensors as the bytes of a safetensors file, which depend on names and values alone.

    Written here and not by the library, whose next version may lay out the same tensors otherwise: the hash of these
    bytes is what an entry pins.

    Args:
        state: plain tensors on the CPU.
        path: where they come from, for messages.

    Raises:
        WeightsError: a name that the format reserves.
    """
    if "__metadata__" in state:
        raise _no_state(path, "a tensor named '__metadata__'")
    header: dict[str, Any] = {}
    pieces: list[bytes] = []
    end = 0
    # The largest items first, so that each tensor begins at a multiple of the size of its own.
    for name, value in sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0])):
        piece = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        begin, end = end, end + len(piece)
        header[name] = {"dtype": _DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
        pieces.append(piece)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *pieces])
