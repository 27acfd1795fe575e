"""The errors users meet: each says what was expected, what came, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class RelaZooError(Exception):
    """Base of every error this package raises for a user's mistake or for something missing.

    Args:
        what: one sentence naming the thing that is wrong.
        expected: what would have been right.
        got: what came instead.
        fix: what to do, a command where one exists.

    Examples:
        >>> from rela_zoo import RelaZooError, load_prior
        >>> try:
        ...     load_prior("cifar10-resnet21")
        ... except RelaZooError as error:
        ...     print(error.what)
        no prior is named 'cifar10-resnet21'
    """

    def __init__(
        self, what: str, *, expected: object | None = None, got: object | None = None, fix: str | None = None
    ) -> None:
        what = _without_traceback(what, type(self).__name__)
        self.what, self.expected, self.got, self.fix = what, expected, got, fix
        lines = [what]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if got is not None:
            lines.append(f"  got:      {got}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(lines))


def _without_traceback(what: str, kind: str) -> str:
    """The message alone of an error that torch's loader raises again for a worker, with the worker's traceback."""
    again = what.startswith(f"Caught {kind} in DataLoader worker")
    return what.rsplit(f".{kind}: ", 1)[-1].rstrip() if again else what


class RegistryError(RelaZooError):
    """A registry entry is malformed, missing, or clashes with another."""


class UnknownPriorError(RegistryError):
    """No source of the registry knows this name."""


class WeightsError(RelaZooError):
    """Weights are out of reach, unsafe, or not those that the entry describes."""


class EmbeddingsError(RelaZooError):
    """An embedding artefact is damaged, or does not belong to the data at hand."""


class TransportError(RelaZooError):
    """A transport can't be fitted, read, or applied to these rows."""


class SelectionError(RelaZooError):
    """Subsets can't be drawn as asked for, or recorded ones don't fit the data at hand."""


class TrainingError(RelaZooError):
    """A training can't go on: its loss or its weights are not finite."""


class PluginError(RelaZooError):
    """A part that another package provides can't be used; names that package."""


class HubError(RelaZooError):
    """The Hugging Face Hub can't be reached, refuses, or holds something else than was promised.

    Args:
        transient: whether the same request may succeed in a moment.
        retry_after: seconds that the server asks to wait, or None.
        status: of HTTP, if the Hub answered.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: object | None = None,
        got: object | None = None,
        fix: str | None = None,
        transient: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, fix=fix)
        self.transient, self.retry_after, self.status = transient, retry_after, status


class SignatureError(HubError):
    """What was published is not signed by whom is trusted, or a key or a signature is none."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: the dotted key, and the three parts of an error."""

    key: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}, got {self.got}\n    fix: {self.fix}"


class ConfigError(RelaZooError):
    """The configuration is wrong; lists every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the configuration:\n{listed}")
