"""The prior that is to be published, from whichever option names it; and its local entry, to embed with."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import yaml

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_path, atomic_write
from rela_zoo.errors import RegistryError
from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._prior_forms import Source, from_checkpoint, from_entry, from_module, from_timm
from rela_zoo.hub.publish._publishable_weights import WEIGHTS_FILE


def read_source(
    entry: str | os.PathLike[str] | None,
    timm: str | None,
    module: str | None,
    checkpoint: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str] | None,
    details: Details,
    work: Path,
) -> Source:
    """Read the one prior that is named.

    Raises:
        RegistryError: none or several are, or facts are missing.
        WeightsError: its weights are out of reach, unsafe, or do not fit.
    """
    given = {"--entry": entry, "--timm": timm, "--module": module, "--checkpoint": checkpoint}
    named = [option for option, value in given.items() if value is not None]
    if len(named) != 1:
        raise RegistryError(
            "a publication is of one prior", expected=f"one of {', '.join(given)}", got=" and ".join(named) or "none"
        )
    file = Path(weights).expanduser() if weights is not None else None
    if file is not None and not file.is_file():
        raise RegistryError(f"there are no weights at {file}", expected="a safetensors file")
    if entry is not None:
        return from_entry(os.fspath(entry), details, file, work)
    if timm is not None:
        return from_timm(timm, details, file)
    if module is not None:
        return from_module(module, details, file, work)
    assert checkpoint is not None
    if file is not None:
        raise RegistryError("a checkpoint brings its own weights", expected="no --weights", got=file)
    return from_checkpoint(Path(checkpoint).expanduser(), details, work)


def prepare(
    out: str | os.PathLike[str],
    *,
    entry: str | os.PathLike[str] | None = None,
    timm: str | None = None,
    module: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    details: Details | None = None,
) -> Path:
    """Write the prior as a local entry, `<id>.yaml` with its weights beside it, and send nothing.

    `rela-zoo embed OUT/<id>.yaml …` embeds with it, and `rela-zoo publish --entry OUT/<id>.yaml …` publishes it.

    Returns:
        path of the entry.

    Raises:
        RegistryError, WeightsError: as `publish`; or another prior's weights are in that folder.
    """
    folder = Path(out).expanduser()
    with tempfile.TemporaryDirectory(prefix="rela_zoo_publish_") as work:
        source = read_source(entry, timm, module, checkpoint, weights, details or Details(), Path(work))
        folder.mkdir(parents=True, exist_ok=True)
        spec = source.local or source.spec
        if source.weights is not None and source.local is None:
            target = folder / WEIGHTS_FILE
            if target.exists() and file_sha256(target) != source.spec.sha256:
                raise RegistryError(
                    f"{target} holds other weights", expected="a new folder, or that of this prior",
                    fix="give another folder",
                )  # fmt: skip
            with atomic_path(target) as temporary:
                shutil.copyfile(source.weights, temporary)
        path = folder / f"{spec.id}.yaml"
        raw = spec.model_dump(mode="json", exclude_defaults=True)
        atomic_write(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=110).encode("utf-8"))
    return path
