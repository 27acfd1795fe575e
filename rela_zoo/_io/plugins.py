"""Classes by name: this package's own, a file each, and those that other packages provide by entry points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from rela_zoo._io.log import logger
from rela_zoo.errors import PluginError

_log = logger(__name__)


class Plugin:
    """Base of what is registered by name.

    Attributes:
        name: under which it is asked for; "" for a class that is no part of its own.
    """

    name: str = ""

    @classmethod
    def flaw(cls) -> str | None:
        """What the class lacks to be used, or None."""
        return None


Part = TypeVar("Part", bound=Plugin)


class Plugins(Generic[Part]):
    """The parts of one kind.

    Args:
        kind: what they are, for messages: "selection policy".
        base: their base class.
        package: whose modules hold the built-in ones; modules that begin with `_` hold none.
        group: of the entry points by which other packages provide more: `name = "module:Class"`.
    """

    def __init__(self, kind: str, base: type[Part], package: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._base, self._package = base, package
        self._refused: set[EntryPoint] = set()

    @cached_property
    def built_in(self) -> dict[str, type[Part]]:
        """This package's own, by name."""
        found: dict[str, type[Part]] = {}
        for module in iter_modules(import_module(self._package).__path__):
            if module.name.startswith("_"):
                continue
            name = f"{self._package}.{module.name}"
            for value in vars(import_module(name)).values():
                if isinstance(value, type) and issubclass(value, self._base) and value.__module__ == name:
                    found[value.name] = value
        return found

    def names(self) -> tuple[str, ...]:
        """All of them: this package's own first. Nothing of another package is imported."""
        return (*self.built_in, *sorted({entry.name for entry in self._entries()}))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def find(self, name: str) -> type[Part] | None:
        """The class of this name, or None if nobody provides it.

        Raises:
            PluginError: another package provides it, and it can't be used; names that package.
        """
        if name in self.built_in:
            return self.built_in[name]
        offered = {entry.value: entry for entry in self._entries() if entry.name == name}
        if not offered:
            return None
        if len(offered) > 1:
            raise PluginError(
                f"the {self.kind} {name!r} is provided more than once",
                expected="one package that does",
                got=", ".join(f"{_package_of(entry)} ({entry.value})" for entry in offered.values()),
                fix="uninstall all but one of them",
            )
        return self._load(next(iter(offered.values())))

    def _entries(self) -> Iterable[EntryPoint]:
        """What other packages provide; looked up afresh, for only unknown names and lists ask for it."""
        for entry in entry_points(group=self.group):
            if entry in self._refused:
                continue
            if entry.name in self.built_in:
                self._refused.add(entry)
                _log.warning(
                    f"rela_zoo: {_package_of(entry)} provides a {self.kind} {entry.name!r}, "
                    "a name of this package's own; it is ignored"
                )
            else:
                yield entry

    def _load(self, entry: EntryPoint) -> type[Part]:
        try:
            found = entry.load()
        # Whatever another package's import does must not look like a mistake of this one.
        except Exception as error:
            raise self._unusable(entry, f"{type(error).__name__}: {error}") from error
        if not isinstance(found, type) or not issubclass(found, self._base):
            raise self._unusable(entry, f"{found!r}, which does not derive from {self._base.__name__}")
        if found.name != entry.name:
            raise self._unusable(entry, f"{found.__name__}, whose name is {found.name!r}")
        if (flaw := found.flaw()) is not None:
            raise self._unusable(entry, flaw)
        return found

    def _unusable(self, entry: EntryPoint, got: str) -> PluginError:
        package = _package_of(entry)
        return PluginError(
            f"the {self.kind} {entry.name!r} of the package {package} can't be used",
            expected=f"a class {entry.value} that derives from {self._base.__module__.rsplit('._', 1)[0]}."
            f"{self._base.__name__} and has name = {entry.name!r}",
            got=got,
            fix=f"update {package}, or remove it: pip uninstall {package}",
        )


def _package_of(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]
