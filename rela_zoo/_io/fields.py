"""What models of configurations are made of: a base, types of fields, and what a field says about itself.

A field says in its `description` what is expected ("a number in (0, 1]"), and with `Fix` what to do where its default
is no answer. Validators raise `Problems` to say more than one thing, or something about a key further inside.
`rela_zoo._io.validation` checks values by such models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from rela_zoo._io.text import did_you_mean, listed
from rela_zoo.errors import Problem


class Section(BaseModel):
    """A mapping of a configuration: unknown keys are problems, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> Collection[str]:
        """The keys that may stand here; those that are no fields are left alone."""
        return cls.model_fields


class Fix(NamedTuple):
    """What to do about a wrong value, in the metadata of a field.

    Attributes:
        text: `{key}` in it stands for the field's dotted key, `{parent}` for that of its section.
    """

    text: str


class Problems(ValueError):
    """Raised in a validator: what is wrong inside the value that it checks.

    Args:
        problems: with keys relative to that value; "" is the value itself. `{key}` and `{parent}` in their fixes are
            filled in as in `Fix`.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"{one.key or 'value'}: {sentence(one)}" for one in self.problems))


def sentence(problem: Problem) -> str:
    """`expected …, got …`, without key and fix."""
    return f"expected {problem.expected}" + (f", got {problem.got}" if problem.got else "")


# ── types of fields ───────────────────────────────────────────────────────────────────────────────────────────────


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# 100.0 too, which is what Hydra makes of 1e2.
Whole = Annotated[int, BeforeValidator(_whole)]

# A non-empty string, or a path, which becomes one.
PathText = Annotated[
    str,
    Field(min_length=1, description="a path"),
    BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value),
]


def one_of(names: Callable[[], Iterable[str]]) -> BeforeValidator:
    """For choices that are only known when asked for: names in a registry.

    Args:
        names: gives them.

    Returns:
        Metadata for `Annotated[str, …]`.
    """

    def check(value: Any) -> Any:
        known = list(names())
        if value not in known:
            raise Problems([Problem("", listed(known), repr(value), choose(value, known))])
        return value

    return BeforeValidator(check)


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def choose(value: object, known: list[str]) -> str:
    """What to do about a choice that is none: the nearest, or the first; for `Problems`."""
    near = did_you_mean(value, known, cutoff=0.5)
    return f"did you mean {{key}}={near}?" if near else f"set {{key}}={known[0]}"
