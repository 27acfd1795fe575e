"""One way to check configurations: values by pydantic models, and one translator of what those find into `Problem`s."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from rela_zoo._io.fields import Fix, Problems, Section, choose
from rela_zoo._io.text import did_you_mean, listed
from rela_zoo.errors import Problem

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], value: object, *, lenient: bool = False) -> tuple[Model | None, list[Problem]]:
    """Check a value by a model.

    Args:
        model: what it should be.
        value: plain data.
        lenient: report unknown keys only where they look like a slip of the pen.

    Returns:
        The model, or None if a rule of it is broken, and every problem found, with keys relative to `value`, for
        `placed`.
    """
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, translate(error, model, lenient=lenient)


def placed(key: str, problems: Iterable[Problem]) -> list[Problem]:
    """Problems with their full dotted keys, also within what to do about them.

    Args:
        key: dotted, where the checked value stands in the configuration; "" for the configuration itself.
        problems: with keys relative to it.
    """
    found = []
    for one in within(key, problems):
        parent, dot, _ = one.key.rpartition(".")
        fix = one.fix.replace("{key}", one.key).replace("{parent}.", parent + dot).replace("{parent}", parent)
        found.append(Problem(one.key, one.expected, one.got, fix))
    return found


def within(key: str, problems: Iterable[Problem]) -> list[Problem]:
    """Problems of a part as those of the whole.

    Args:
        key: of the part in the whole.
        problems: with keys relative to the part; those that begin with a dot are of a key beside the part.
    """
    found = []
    for one in problems:
        start = key.rpartition(".")[0] if one.key.startswith(".") else key
        name = ".".join(part for part in (start, one.key.removeprefix(".")) if part)
        found.append(Problem(name, one.expected, one.got, one.fix))
    return found


def translate(error: ValidationError, model: type[BaseModel], *, lenient: bool = False) -> list[Problem]:
    """What pydantic found, one problem a key; unknown keys first.

    Args:
        error: raised by `model`.
        model: whose fields say what was expected.
        lenient: report unknown keys only where they look like a slip of the pen.

    Returns:
        Problems with keys relative to the checked value, for `placed`.
    """
    unknown: list[Problem] = []
    wrong: dict[str, tuple[_Place, list[Mapping[str, Any]]]] = {}
    for one in error.errors(include_url=False):
        place = _locate(model, one["loc"], one["type"])
        if one["type"] == "extra_forbidden":
            unknown += _unknown_key(place, one["input"], lenient)
        else:
            wrong.setdefault(place.key, (place, []))[1].append({**one})
    found = []
    for place, errors in wrong.values():
        inner = [one["ctx"]["error"] for one in errors if one["type"] == "value_error"]
        raised = [problem for one in inner if isinstance(one, Problems) for problem in within(place.key, one.problems)]
        found += raised or [_problem(place, errors)]
    return [*unknown, *found]


class _Place(NamedTuple):
    """Where in a model an error is.

    Attributes:
        key: dotted, relative to the checked value.
        field: that the value is in, or None for an item of a list, and for an unknown key.
        owner: the model that the last key belongs to.
        annotation: of the value, or None.
    """

    key: str
    field: FieldInfo | None
    owner: type[BaseModel]
    annotation: Any

    def said(self) -> tuple[str | None, str | None]:
        """What the field says about what is expected, and about what to do."""
        metadata = _metadata(self.annotation)
        if self.field is not None:
            metadata = [self.field, *self.field.metadata, *metadata]
        words = (one.description for one in metadata if isinstance(one, FieldInfo) and one.description)
        fixes = (one.text for one in metadata if isinstance(one, Fix))
        return next(words, None), next(fixes, None)


def _locate(model: type[BaseModel], loc: tuple[int | str, ...], kind: str) -> _Place:
    """Pydantic's location without the names of union members and validators that stand in it."""
    keys: list[str] = []
    field, owner = None, model
    annotation: Any = model
    for position, part in enumerate(loc):
        models = _models(annotation)
        holder = next((one for one in models if part in one.model_fields), None)
        last_key = position == len(loc) - 1 and kind in ("extra_forbidden", "invalid_key")
        items = _item_types(annotation, mapping=isinstance(part, str))
        if holder is not None:
            owner, field = holder, holder.model_fields[str(part)]
            annotation = field.annotation
        elif last_key and models:
            owner, field, annotation = models[0], None, None
        elif items and (isinstance(part, int) or not models):
            field, annotation = None, Union[tuple(items)]  # noqa: UP007
        else:
            continue
        keys.append(str(part))
    return _Place(".".join(keys), field, owner, annotation)


def _members(annotation: Any) -> list[Any]:
    """The types that a value may have: the members of a union, without their metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [annotation]


def _metadata(annotation: Any) -> list[Any]:
    """What stands beside a type and the members of a union in `Annotated`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return [*metadata, *_metadata(inner)]
    if origin in (Union, UnionType):
        return [found for one in get_args(annotation) for found in _metadata(one)]
    return []


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _members(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _item_types(annotation: Any, *, mapping: bool) -> list[Any]:
    """The types of the values of mappings, or of the items of lists and tuples, among the members."""
    found: list[Any] = []
    for one in _members(annotation):
        origin, parts = get_origin(one), [part for part in get_args(one) if part is not Ellipsis]
        if isinstance(origin, type) and parts and issubclass(origin, Mapping) == mapping:
            found.append(parts[-1])
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _as_yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _known_keys(owner: type[BaseModel]) -> Collection[str]:
    return owner.known_keys() if issubclass(owner, Section) else owner.model_fields


def _unknown_key(place: _Place, value: object, lenient: bool) -> list[Problem]:
    name = place.key.rpartition(".")[2]
    known = _known_keys(place.owner)
    near = did_you_mean(name, known, cutoff=0.8 if lenient else 0.6)
    if name in known or (lenient and near is None):
        return []
    fix = f"remove it; known keys: {', '.join(known)}"
    if near is not None:
        fix = f"did you mean {{parent}}.{near}?"
    return [Problem(place.key, "a known key", _shown(value), fix)]


def _problem(place: _Place, errors: list[Mapping[str, Any]]) -> Problem:
    """The problem of one value, about which the members of a union may each have complained."""
    error, field = errors[0], place.field
    kind = error["type"]
    expected, fix = place.said()
    choices = re.findall(r"'([^']*)'", error["ctx"]["expected"]) if kind == "literal_error" else []
    if expected is None:
        expected = listed(dict.fromkeys(_expected(place, one) for one in errors))
    got = "nothing" if kind == "missing" else _shown(error["input"])
    if fix is None and kind == "model_type":
        fix = "write a mapping of these keys"
    if fix is None and kind == "missing":
        fix = "set {key}=…"
    if fix is None and choices:
        fix = choose(error["input"], choices)
    if fix is None and kind == "string_type" and isinstance(error["input"], int | float):
        fix = "write it in quotes"
    if fix is None and field is not None and not field.is_required():
        fix = f"set {{key}}={_as_yaml(field.get_default(call_default_factory=True))}"
    return Problem(place.key, expected, got, fix or "set {key} to such a value")


_MESSAGES = {
    "missing": "a value",
    "invalid_key": "a key that is a string",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number ≥ {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number ≤ {le}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "bool_type": "true or false",
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "dict_type": "a mapping",
}


def _expected(place: _Place, error: Mapping[str, Any]) -> str:
    """What would have been right, where the field does not say it."""
    kind = error["type"]
    if kind == "model_type" and (models := _models(place.annotation)):
        return f"a section with {', '.join(models[0].model_fields)}"
    if kind == "literal_error":
        return str(error["ctx"]["expected"]).replace("'", "")
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**error.get("ctx", {}))
    message = str(error["msg"])
    return (
        message.removeprefix("Input should be ") if "Input should be " in message else f"a value that fits: {message}"
    )
