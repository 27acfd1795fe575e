"""Measured numbers about priors, each read from the results file that the measuring command wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rela_zoo.errors import RegistryError

_MAX_BYTES = 4 << 20


class Measurement(BaseModel):
    """One number somebody measured.

    Attributes:
        prior: id of the entry.
        measure: what was measured, as a table says it.
        data: the data it was measured on; also what a reader must know to compare.
        value: fraction in [0, 1], or None until it is read from `results`.
        command: what makes the number again.
        hub_dataset: id of the data set on the Hub, where it has one; without it the number is no Hub result.
        metric: the Hub's name of the measure.
        results: file with the number, relative to the project.
        key: where in that file: names of keys, and `name=value` for the item of a list.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: str
    measure: str = Field(min_length=3)
    data: str = Field(min_length=3)
    value: float | None = Field(default=None, ge=0, le=1)
    command: str
    hub_dataset: str | None = None
    metric: str = "accuracy"
    results: str
    key: tuple[str, ...]

    @property
    def percent(self) -> str:
        """The value for a table."""
        return "–" if self.value is None else f"{100 * self.value:.1f} %"


def read_measured(path: Path, project: Path) -> list[Measurement]:
    """Read the list of measurements and fill in each value from its results file.

    Args:
        path: YAML, a list of the fields of `Measurement` without `value`.
        project: folder that `results` is relative to.

    Raises:
        RegistryError: a malformed list, or a number that is not where it should be.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        found = [Measurement.model_validate(one) for one in raw]
    except (OSError, yaml.YAMLError, ValidationError, TypeError) as error:
        raise RegistryError(f"{path} is no list of measurements", got=str(error), fix="mend the file") from error
    if any(one.value is not None for one in found):
        raise RegistryError(
            f"{path} states a value itself", expected="`results` and `key`, which say where it was written",
            fix="remove `value`: a number is read from the file of the command that measured it",
        )  # fmt: skip
    return [one.model_copy(update={"value": _value(project / one.results, one.key)}) for one in found]


def _value(path: Path, key: tuple[str, ...]) -> float:
    where = f"{path.name}: {' → '.join(key)}"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        at: Any = json.loads(path.read_bytes())
        for part in key:
            name, _, value = part.partition("=")
            at = next(one for one in at if one[name] == value) if isinstance(at, list) else at[part]
        number = float(at)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise RegistryError(
            f"a measured number is missing at {where}", expected="a number", got=f"{type(error).__name__}: {error}",
            fix="run the command that measures it, or correct `results` and `key`",
        ) from error  # fmt: skip
    if not 0 <= number <= 1:
        raise RegistryError(f"a measured number is out of range at {where}", expected="a fraction", got=number)
    return number
