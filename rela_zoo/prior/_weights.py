"""Weight files: where they are, whether they are the right ones, and reading them without running anything.

Only safetensors is read, which holds tensors and text and no code. Pickles are refused wherever they come from, but for
files inside packages of the package index whose hash an entry pins (`_installed`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rela_zoo._io import paths
from rela_zoo._io.digest import file_sha256
from rela_zoo._io.install import install_command
from rela_zoo._io.safetensors_header import HeaderError, read_header
from rela_zoo.errors import HubError, SignatureError, WeightsError
from rela_zoo.prior._installed import weights_of_package
from rela_zoo.prior._places import own_weights_path, supplied_path
from rela_zoo.prior.families import FAMILIES
from rela_zoo.registry import PriorSpec
from rela_zoo.remote import fetch_file, fetch_unsigned


class UnpinnedWeightsWarning(UserWarning):
    """Nothing in the registry says which bytes these weights must be."""


@dataclass(frozen=True)
class FoundWeights:
    """A weight file on this machine: its path, and the full commit it came from where that is known."""

    path: Path
    revision: str | None


def find_weights(spec: PriorSpec, *, download: bool = True) -> FoundWeights:
    """The weight file of an entry: packaged, put there by the user, of another package, or from the Hub.

    Args:
        spec: the entry.
        download: whether the network may be asked.

    Raises:
        WeightsError: if it is not in reach; says which file of which repository at which commit, and where to put it.
    """
    file = spec.file
    family = FAMILIES.find(spec.family)
    if file is None or (family is not None and not family.builds):
        raise WeightsError(
            f"prior {spec.id!r} can't be loaded by this package",
            expected="an entry with a weight file",
            got=f"family {spec.family!r}" + (" without one" if file is None else ", which nobody here can build"),
            fix=" ".join(spec.notes) or None,
        )
    if spec.source == "embedded":
        packaged = paths.packaged_weights() / file
        if packaged.is_file():
            return FoundWeights(packaged, None)
        raise WeightsError(
            f"the weights of {spec.id!r} are missing from the package",
            expected=packaged,
            fix=f"reinstall rela-zoo: {install_command()}",
        )
    own, supplied = own_weights_path(spec), supplied_path(spec)
    if supplied is not None:
        return FoundWeights(supplied, spec.revision)
    if spec.source == "package":
        return FoundWeights(weights_of_package(spec), None)
    if spec.source in ("local", "callable"):
        raise WeightsError(
            f"the weights of {spec.id!r} are not on this machine, and can't be downloaded",
            expected=f"a safetensors file at {own}" + _hash_wanted(spec),
            got="nothing there",
            fix=_how_to_supply(spec, own),
        )
    return _from_hub(spec, file, own, download)


def _hash_wanted(spec: PriorSpec) -> str:
    return f" (sha256 {spec.sha256})" if spec.sha256 else ""


def _how_to_supply(spec: PriorSpec, own: Path) -> str:
    origin = spec.origin
    lines = [f"put the file at {own}"]
    if origin is not None:
        where = [
            f"{origin.file or 'a file'} of {origin.repo} on the Hub" if origin.repo else "",
            f"at commit {origin.revision}" if origin.revision else "",
            f"sha256 {origin.sha256}" if origin.sha256 else "",
            origin.url or "",
            origin.note or "",
        ]
        lines.append("origin: " + ", ".join(part for part in where if part))
    lines.extend(spec.notes)
    return "\n            ".join(lines)


def _from_hub(spec: PriorSpec, file: str, own: Path, download: bool) -> FoundWeights:
    assert spec.repo is not None  # checked when the entry was read
    # A file that is not the confirmed one is fetched again. Where the hash is somebody's record, or unknown, the record
    # may be what is wrong: `verify_sha256` decides.
    wanted = spec.sha256 if spec.pin == "confirmed" else None
    # An entry of this machine, or one that was signed itself, vouches for the weights by their hash.
    fetch = fetch_unsigned if spec.sha256 is not None else fetch_file
    try:
        path = fetch(spec.repo, file, spec.revision, "model", sha256=wanted, download=download)
    except SignatureError:
        raise
    # A server that is down, a cache without the file when offline, a revision without the file, a full disk.
    except HubError as error:
        cause = error.__cause__
        commit = f" --revision {spec.revision}" if spec.revision else ""
        raise WeightsError(
            f"the weights of {spec.id!r} are not in reach",
            expected=f"{file} of {spec.repo} at commit {spec.revision or '(unknown: the newest)'}" + _hash_wanted(spec),
            got=f"{type(cause).__name__}: {error.got}" if cause else f"{error.what}: {error.got}",
            fix=f"{error.fix}\n            with network: hf download {spec.repo} {file}{commit}\n"
            f"            without: copy that file to {own}",
        ) from (cause or error)
    return FoundWeights(path, spec.revision or _snapshot(path))


def _snapshot(path: Path) -> str | None:
    """The commit in a path of the Hub's cache, …/snapshots/<commit>/file."""
    parts = path.parts
    if "snapshots" not in parts:
        return None
    commit = parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]
    return commit if len(commit) == 40 else None


def verify_sha256(spec: PriorSpec, path: Path) -> str:
    """sha256 of a file, read once in pieces.

    Raises:
        WeightsError: if the entry names another.
    """
    try:
        got = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read", got=error.strerror or str(error)) from error
    if spec.sha256 is not None and got != spec.sha256:
        doubt = (
            "; this hash is a third party's record: compare it with the file's page on the Hub before trusting either"
            if spec.pin == "third-party"
            else ""
        )
        raise WeightsError(
            f"{path} is not the weight file of {spec.id!r}",
            expected=f"sha256 {spec.sha256}",
            got=f"sha256 {got}",
            fix=f"delete the file and fetch it again{doubt}",
        )
    return got


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file on the CPU, floating-point ones as float32; of a whole CLIP only the image tower.

    Raises:
        WeightsError: if the file is no safetensors, is damaged, or holds values that are not finite.
    """
    _check_header(path)
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys = list(file.keys())
            # A whole CLIP also has the text tower, which is most of the file in some cases.
            keys = [key for key in keys if key.startswith("visual.")] or keys
            for key in keys:
                tensor = file.get_tensor(key)
                # A copy: the tensors of the file are views of its memory map, and the file may change.
                state[key] = tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is damaged", expected="a complete safetensors file", got=str(error), fix="fetch it again"
        ) from error
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        raise WeightsError(
            f"{path} holds values that are not finite", expected="finite weights", got=", ".join(bad[:3])
        )
    return state


def _check_header(path: Path) -> None:
    """Refuse what is not safetensors before any library parses it, and say what it is."""
    with path.open("rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise WeightsError(
            f"{path} is a pickle",
            expected="a safetensors file: unpickling can run any code, so pickles are never read",
            got="a PyTorch or pickle file",
            fix="convert it where you trust it: safetensors.torch.save_file(state_dict, 'model.safetensors')",
        )
    try:
        read_header(path)
    except HeaderError as error:
        raise WeightsError(error.what, expected=error.expected, got=error.got, fix="fetch it again") from error


def state_digest(state: dict[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values: identifies weights that come from no file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
