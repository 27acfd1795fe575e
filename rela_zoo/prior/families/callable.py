"""Networks of the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from torch import nn

from rela_zoo.errors import RegistryError
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec


class Callables(Family):
    """`module:callable`, which takes nothing and returns a network with its weights, (B, 3, H, W) → (B, D).

    The module is imported by name, or is a file `module.py` beside the entry.
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
    beside = spec.folder / f"{name}.py" if spec.folder is not None and "." not in name else None
    if beside is not None and beside.is_file():
        found = importlib.util.spec_from_file_location(f"_rela_zoo_user_{name}", beside)
        assert found is not None  # always so for a .py file
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not name.startswith(error.name):
            raise
        raise RegistryError(
            f"the module of prior {spec.id!r} is not importable",
            expected=f"a module {name!r} on the Python path" + (f", or a file {beside}" if beside else ""),
            got=str(error),
        ) from error
