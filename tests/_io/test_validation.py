"""From pydantic's errors to problems: where, what was expected, what came, what to do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationInfo, field_validator

from rela_zoo._io.fields import Fix, PathText, Problems, Section, Whole, one_of
from rela_zoo._io.text import listed
from rela_zoo._io.validation import placed, validate, within
from rela_zoo.errors import Problem


class Part(Section):
    low: int = 0
    high: int = 1
    kind: Literal["warm", "cold"] = "warm"

    @field_validator("high")
    @classmethod
    def _in_order(cls, high: int, info: ValidationInfo) -> int:
        if info.data.get("low", high) > high:
            raise Problems([Problem(".low", f"at most {high}", str(info.data["low"]), "set {key}={parent}.high")])
        return high


class Run(Section):
    ratio: Annotated[int | float, Field(gt=0, le=1, description="a fraction in (0, 1]"), Fix("set {key}=0.5")]
    flag: bool = False
    nothing: Annotated[int, Field(ge=2, description="a number ≥ 2, or null")] | None = None
    mixed: Literal["auto"] | float = "auto"
    name: Annotated[str, one_of(lambda: ["adam", "sgd"])] = "adam"
    place: PathText | None = None
    steps: Whole = 1
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    table: dict[str, Part] = Field(default_factory=dict)
    numbers: dict[str, str | int] = Field(default_factory=dict)

    @classmethod
    def known_keys(cls) -> list[str]:
        return [*cls.model_fields, "elsewhere"]


def problems(value: Any, *, lenient: bool = False, key: str = "run") -> list[Problem]:
    return placed(key, validate(Run, value, lenient=lenient)[1])


def test_what_is_right_comes_back_as_it_was_written() -> None:
    model, found = validate(Run, {"ratio": 1, "steps": 1e2, "elsewhere": 3} | {"part": {"high": 3}})
    assert found == []
    assert model is None  # unknown to the model itself, though no problem
    model, found = validate(Run, {"ratio": 1, "steps": 1e2, "part": {"high": 3}})
    assert model is not None
    assert (repr(model.ratio), repr(model.steps), model.part.high) == ("1", "100", 3)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"ratio": 0}, ("run.ratio", "a fraction in (0, 1]", "0", "set run.ratio=0.5")),
        ({"ratio": True}, ("run.ratio", "a fraction in (0, 1]", "True", "set run.ratio=0.5")),
        ({"ratio": "half"}, ("run.ratio", "a fraction in (0, 1]", "'half'", "set run.ratio=0.5")),
        ({"ratio": float("nan")}, ("run.ratio", "a fraction in (0, 1]", "nan", "set run.ratio=0.5")),
        ({"flag": 1}, ("run.flag", "true or false", "1", "set run.flag=false")),
        ({"nothing": 1}, ("run.nothing", "a number ≥ 2, or null", "1", "set run.nothing=null")),
        ({"mixed": "x"}, ("run.mixed", "auto or a number", "'x'", "set run.mixed=auto")),
        ({"name": "adma"}, ("run.name", "adam or sgd", "'adma'", "did you mean run.name=adam?")),
        ({"name": 3}, ("run.name", "adam or sgd", "3", "set run.name=adam")),
        ({"place": ""}, ("run.place", "a path", "''", "set run.place=null")),
        ({"steps": 1.5}, ("run.steps", "an integer", "1.5", "set run.steps=1")),
        ({"part": 3}, ("run.part", "a section with low, high, kind", "3", "write a mapping of these keys")),
        ({"part": {"kind": "wram"}}, ("run.part.kind", "warm or cold", "'wram'", "did you mean run.part.kind=warm?")),
        ({"part": {"hihg": 1}}, ("run.part.hihg", "a known key", "1", "did you mean run.part.high?")),
        ({"part": {"low": 5, "high": 1}}, ("run.part.low", "at most 1", "5", "set run.part.low=run.part.high")),
        ({"parts": ({}, {"low": "x"})}, ("run.parts.1.low", "an integer", "'x'", "set run.parts.1.low=0")),
        ({"table": {"a": {"low": None}}}, ("run.table.a.low", "an integer", "None", "set run.table.a.low=0")),
        ({"numbers": {"int": 0.5}}, ("run.numbers.int", "text or an integer", "0.5", "write it in quotes")),
        ({"numbers": {"int": None}}, ("run.numbers.int", "text or an integer", "None", "set {key} to such a value")),
    ],
    ids=str,
)  # fmt: skip
def test_one_problem(change: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert [(p.key, p.expected, p.got, p.fix) for p in problems({"ratio": 0.5, **change})] == [
        tuple(word.replace("{key}", wanted[0]) for word in wanted)
    ]


def test_all_at_once_unknown_keys_first() -> None:
    found = problems({"flag": 0, "part": {"low": "x", "hgih": 1}, "raito": 1, "zzz": 1})
    unknown, wrong = ["run.part.hgih", "run.raito", "run.zzz"], ["run.ratio", "run.flag", "run.part.low"]
    assert [one.key for one in found] == unknown + wrong
    assert found[1].fix == "did you mean run.ratio?"
    assert found[2].fix.startswith("remove it; known keys: ratio, flag")
    assert (found[3].got, found[3].expected) == ("nothing", "a fraction in (0, 1]")


def test_lenient_reports_only_what_looks_like_a_slip() -> None:
    value = {"ratio": 0.5, "zzz": 1, "elsewhere": 2, "elsewere": 3, "part": {"own": 1, "kinds": 2}}
    assert [one.key for one in problems(value, lenient=True)] == ["run.part.kinds", "run.elsewere"]
    assert [one.fix for one in problems(value, lenient=True, key="")] == [
        "did you mean part.kind?", "did you mean elsewhere?",
    ]  # fmt: skip


def test_a_key_that_is_no_string() -> None:
    (found,) = problems({"ratio": 0.5, 3: 4})
    assert (found.key, found.expected) == ("run.3", "a key that is a string")


def test_keys_are_put_together() -> None:
    here = [Problem("", "x", "y", "{key}"), Problem("a", "x", "y", "{parent}.b {parent}"), Problem(".c", "x", "y", "")]
    assert [one.key for one in within("p.q", here)] == ["p.q", "p.q.a", "p.c"]
    assert [one.fix for one in placed("p", within("q", here))] == ["p.q", "p.q.b p.q", ""]
    assert [one.fix for one in placed("", here)][:2] == ["", "b "]


def test_names_are_listed() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


def test_long_values_are_cut() -> None:
    (found,) = problems({"ratio": "x" * 1000})
    assert len(found.got) == 80
