"""Networks of the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from rela_zoo.errors import RegistryError
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec


class Callables(Family):
    """`module:callable`, which takes nothing and returns a network with its weights, (B, 3, H, W) → (B, D).

    The module is a file or a package beside the entry, or is imported by name. Where the entry names a weight file, its
    tensors are loaded into the network.
    """

    name = "callable"
    on_meta = False

    def build(self, spec: PriorSpec) -> nn.Module:
        module_name, _, attribute = spec.architecture.partition(":")
        module = _user_module(spec, module_name)
        maker: Any = getattr(module, attribute, None)
        if not callable(maker):
            raise RegistryError(
                f"prior {spec.id!r} names no callable",
                expected=f"a callable {attribute} in {module_name}",
                got=repr(maker),
            )
        network = maker()
        if not isinstance(network, nn.Module):
            raise RegistryError(
                f"{spec.architecture} of prior {spec.id!r} gives no network",
                expected="a torch.nn.Module",
                got=type(network).__name__,
            )
        return network


def _user_module(spec: PriorSpec, name: str) -> Any:
    """A module or package beside the entry, else one of the Python path, else one of the current folder.

    An installed command, unlike `python -m`, does not look into the current folder by itself.
    """
    places = [folder for folder in (spec.folder, Path.cwd()) if folder is not None]
    if _is_in(places[0], name):
        return _from_folder(places[0], name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        if _is_in(places[-1], name):
            return _from_folder(places[-1], name)
        beside = " or ".join(str(folder / f"{name.replace('.', '/')}.py") for folder in dict.fromkeys(places))
        raise RegistryError(
            f"the module of prior {spec.id!r} is not importable",
            expected=f"a module {name!r} on the Python path, or a file {beside}",
            got=str(error),
        ) from error


def _is_in(folder: Path, name: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return path.with_name(f"{path.name}.py").is_file() or path.is_dir()


def _from_folder(folder: Path, name: str) -> Any:
    """A module of a folder; what lies beside it can be imported by it."""
    single = (folder / f"{name}.py").resolve()  # of a link, what it leads to
    if "." in name or not single.is_file():
        first = folder / name.partition(".")[0]
        root = (first if first.is_dir() else folder / f"{first.name}.py").resolve().parent
        with _importable_from(root):
            module = importlib.import_module(name)
        places = [*getattr(module, "__path__", []), getattr(module, "__file__", None) or ""]
        if not any(root in Path(one).resolve().parents for one in places):
            raise RegistryError(
                f"another module {name!r} is imported already", expected=f"that of {root}", got=places[-1],
                fix="rename one of them",
            )  # fmt: skip
        return module
    with _importable_from(single.parent):
        found = importlib.util.spec_from_file_location(f"_rela_zoo_user_{name}", single)
        assert found is not None  # always so for a .py file
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module


@contextmanager
def _importable_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
