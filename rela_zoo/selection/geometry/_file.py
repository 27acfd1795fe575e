"""A geometry's file: one safetensors file with JSON metadata, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo._io.files import atomic_write
from rela_zoo.errors import EmbeddingsError


def write_file(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write under another name and rename; equal content gives equal bytes, an interruption leaves no file.

    Raises:
        EmbeddingsError: the path can't be written.
    """
    from safetensors.numpy import save

    encoded = save(arrays, {"rela_zoo": json.dumps(metadata, sort_keys=True, separators=(",", ":"))})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, encoded)
    except OSError as error:
        raise EmbeddingsError(
            f"{path} can't be written", expected="a folder with room", got=error, fix="set RELA_ZOO_HOME"
        ) from error


def read_file(path: Path, fix: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of a file, and its metadata.

    Raises:
        EmbeddingsError: missing, damaged, or without metadata.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = json.loads((file.metadata() or {})["rela_zoo"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, dict(metadata)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise EmbeddingsError(
            f"{path} is damaged, or holds no geometry of a selection",
            expected="a safetensors file with metadata `rela_zoo`",
            got=f"{type(error).__name__}: {error}",
            fix=fix,
        ) from error
