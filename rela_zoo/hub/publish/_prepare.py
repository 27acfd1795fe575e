"""Which prior to publish, from whichever option names it; and its local entry, to embed with."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_path, atomic_write
from rela_zoo._io.log import logger
from rela_zoo.errors import RegistryError
from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._prior_forms import LocalPrior, from_checkpoint, from_entry, from_module, from_timm
from rela_zoo.hub.publish._publishable_weights import WEIGHTS_FILE
from rela_zoo.registry import PriorSpec, prior_spec

log = logger(__name__)

_PREFIX = "rela_zoo_publish_"


@dataclass(frozen=True)
class PriorChoice:
    """The prior to publish: exactly one of four, with a weight file for the first three.

    Attributes:
        entry: a YAML entry, or a registered name.
        timm: a timm model, `arch.tag`, or `arch` with `weights`.
        module: `module:callable`, which returns the network.
        checkpoint: of solo-learn or of the built-in host.
        weights: a safetensors file.
    """

    entry: str | os.PathLike[str] | None = None
    timm: str | None = None
    module: str | None = None
    checkpoint: str | os.PathLike[str] | None = None
    weights: str | os.PathLike[str] | None = None

    def check(self) -> None:
        """Refuse no prior, or several, or weights that are not there; reads nothing.

        Raises:
            RegistryError: which were named, or where the weights should be.
        """
        given = {
            "--entry": self.entry,
            "--timm": self.timm,
            "--module": self.module,
            "--checkpoint": self.checkpoint,
        }
        named = [option for option, value in given.items() if value is not None]
        if len(named) != 1:
            raise RegistryError(
                "a publication is of one prior",
                expected=f"one of {', '.join(given)}",
                got=" and ".join(named) or "none",
            )
        weights = self._own_weights
        if weights is not None and not weights.is_file():
            raise RegistryError(f"there are no weights at {weights}", expected="a safetensors file")

    @property
    def _own_weights(self) -> Path | None:
        return Path(self.weights).expanduser() if self.weights is not None else None

    def read(self, details: Details, work: Path) -> LocalPrior:
        """Read the prior that is named.

        Args:
            details: put over the facts of the prior.
            work: folder for files made here.

        Raises:
            RegistryError: none or several are named, or facts are missing.
            WeightsError: its weights are out of reach, unsafe, or do not fit.
        """
        self.check()
        said = set(details.words())
        if self.entry is not None:
            said |= prior_spec(os.fspath(self.entry)).model_fields_set
        return replace(self._read(details, work), said=frozenset(said))

    def _read(self, details: Details, work: Path) -> LocalPrior:
        weights = self._own_weights
        if self.entry is not None:
            return from_entry(os.fspath(self.entry), details, weights, work)
        if self.timm is not None:
            return from_timm(self.timm, details, weights)
        if self.module is not None:
            return from_module(self.module, details, weights, work)
        assert self.checkpoint is not None
        if weights is not None:
            raise RegistryError("a checkpoint brings its own weights", expected="no --weights", got=weights)
        return from_checkpoint(Path(self.checkpoint).expanduser(), details, work)


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end; those of runs that were killed are removed now.

    It is named by its process: a folder whose process is gone is nobody's.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        number = left.name.removeprefix(_PREFIX).partition("_")[0]
        if number.isdecimal() and not _is_running(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}_") as folder:
        yield Path(folder)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or a system without such signals
        return True
    return True


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

    Args:
        out: folder.
        entry, timm, module, checkpoint, weights, details: as for `publish`.

    Returns:
        Path of the entry.

    Raises:
        RegistryError, WeightsError: as `publish`; or another prior's weights are in that folder.
    """
    folder = Path(out).expanduser()
    with work_folder() as work:
        choice = PriorChoice(entry, timm, module, checkpoint, weights)
        source = choice.read(details or Details(), work)
        folder.mkdir(parents=True, exist_ok=True)
        spec = source.local or source.spec
        if spec.source == "callable":
            _link_code(spec, folder)
        if source.weights is not None and spec.file is not None:
            target = folder / WEIGHTS_FILE
            if target.exists() and file_sha256(target) != spec.sha256:
                raise RegistryError(
                    f"{target} holds other weights", expected="a new folder, or that of this prior",
                    fix="give another folder",
                )  # fmt: skip
            with atomic_path(target) as temporary:
                shutil.copyfile(source.weights, temporary)
        path = folder / f"{spec.id}.yaml"
        raw = spec.model_dump(mode="json", exclude_defaults=True)
        atomic_write(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=110).encode())
    return path


def _link_code(spec: PriorSpec, folder: Path) -> None:
    """Let the entry find its module beside itself, wherever it is used from; the module stays where it is."""
    assert spec.folder is not None
    first = spec.architecture.partition(":")[0].partition(".")[0]
    for name in (f"{first}.py", first):
        code, link = (spec.folder / name).resolve(), folder / name
        if not code.exists() or link.resolve() == code:
            continue
        if link.exists() and not link.is_symlink():
            raise RegistryError(f"{link} is other code", expected="a folder without it", fix="give another folder")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(code, target_is_directory=code.is_dir())
        except OSError:  # a file system without links: the code is found on the Python path, or from its own folder
            log.info("%s is not reached from %s: put its folder on the Python path", code, folder)
