"""What can be known to be wrong with a `rela` section before data, network or GPU are touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rela_zoo.engine.config import SELF, RelaConfig
from rela_zoo.errors import HubError, Problem, RelaZooError, UnknownPriorError

if TYPE_CHECKING:
    from rela_zoo.registry import PriorSpec


def preflight(config: RelaConfig) -> tuple[tuple[PriorSpec | None, ...], list[Problem]]:
    """Check names and paths of a `rela` section: are the priors known, are the artefacts there and theirs?

    Reads the registry and the index of the embeddings, no weights and no rows.

    Returns:
        The priors' entries, and every problem found.
    """
    problems = config.selection.preflight(config.data_ratio)
    specs = []
    for number, part in enumerate(config.by_prior):
        spec, its = _check_prior(config, *part)
        # In a list it is said which.
        specs.append(spec)
        problems += its if isinstance(config.prior, str) else [_numbered(one, number) for one in its]
    return tuple(specs), problems


def _numbered(problem: Problem, number: int) -> Problem:
    lists = ("rela.prior", "rela.embeddings", "rela.transport")
    return replace(problem, key=f"{problem.key}[{number}]") if problem.key in lists else problem


def _check_prior(
    config: RelaConfig, prior: str, embeddings: str | None, transport: str | None
) -> tuple[PriorSpec | None, list[Problem]]:
    """The entry of one prior, and what is wrong with it and its artefacts."""
    from rela_zoo.hub import as_locked
    from rela_zoo.registry import prior_spec

    problems: list[Problem] = []
    artefacts = {"embeddings": embeddings, "transport": transport}
    if prior == SELF:
        fix = "set it to null: they are made of the student as it is initialised"
        for key, value in artefacts.items():
            if value is not None:
                problems.append(Problem(f"rela.{key}", "null with rela.prior=self", repr(value), fix))
        return None, problems
    spec: PriorSpec | None = None
    try:
        spec = prior_spec(as_locked(prior))
    except UnknownPriorError as error:
        fix = error.fix or "see `rela-zoo list`"
        problems.append(Problem("rela.prior", "the name of a registered prior", repr(prior), fix))
    except RelaZooError as error:
        problems.append(Problem("rela.prior", "a readable registry entry", error.what, error.fix or "mend the entry"))
    for key, value in artefacts.items():
        if value is not None and value.startswith("hf:"):
            problems += _check_address(key, value)
    if embeddings is not None and not embeddings.startswith("hf:"):
        problems += _check_embeddings(config, prior, embeddings, spec)
    if transport is not None and not transport.startswith("hf:") and not Path(transport).is_file():
        fix = "run `rela-zoo transport fit EMBEDDINGS --out FILE`, or set rela.transport=null to fit it on the spot"
        problems.append(Problem("rela.transport", "a transport file", f"nothing at {transport}", fix))
    return spec, problems


def _check_address(key: str, value: str) -> list[Problem]:
    from rela_zoo.remote import parse_address

    try:
        parse_address(value)
    except HubError as error:
        return [Problem(f"rela.{key}", str(error.expected), repr(value), str(error.fix))]
    return []


def _check_embeddings(config: RelaConfig, prior: str, embeddings: str, spec: PriorSpec | None) -> list[Problem]:
    from rela_zoo.embeddings import open_embeddings
    from rela_zoo.prior import entry_identity, identity_differences

    make = f"run `rela-zoo embed {prior} DATA --out DIR`, or set rela.embeddings=null to compute them here"
    try:
        table = open_embeddings(embeddings)
    except RelaZooError as error:
        return [Problem("rela.embeddings", "a folder written by `rela-zoo embed`", error.what, error.fix or make)]
    problems = []
    made_by, theirs = table.info.prior.get("id"), table.info.identity
    # Another preprocessing has a key of its own.
    ours = entry_identity(spec, table.info.preprocessing) if spec is not None else {}
    if spec is not None and (differ := identity_differences(ours, theirs)):
        values = [", ".join(f"{name} {one[name]}" for name in differ if name != "id") for one in (ours, theirs)]
        expected, got = (
            f"embeddings by {name}" + (f" ({value})" if value else "")
            for name, value in zip((spec.id, made_by), values, strict=True)
        )
        fix = f"set rela.prior={made_by}" if made_by != spec.id else make
        problems.append(Problem("rela.embeddings", expected, got, fix))
    if table.info.preprocessing != config.preprocessing:
        fix = f"set rela.preprocessing={table.info.preprocessing}, or embed again"
        got = f"embeddings made with {table.info.preprocessing}"
        problems.append(Problem("rela.preprocessing", f"embeddings made with {config.preprocessing}", got, fix))
    return problems
