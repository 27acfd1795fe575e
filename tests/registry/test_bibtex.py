"""BibTeX from entries."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError
from rela_zoo.registry import bibtex, packaged_priors, prior_spec


def test_every_entry_that_cites_in_full_has_one() -> None:
    found = {spec.id: bibtex(spec) for spec in packaged_priors()}
    for name, entry in found.items():
        spec = prior_spec(name)
        full = bool(spec.arxiv) and re.match(r".+ \d{4}, .+", spec.citation) is not None
        assert (entry is not None) == full, name
        if entry is not None:
            assert re.fullmatch(r"@misc\{[a-z]+\d{4}[a-z0-9]+,\n(?:  \w+ += \{.+\},?\n){5}\}", entry), name
            assert f"eprint        = {{{spec.arxiv[0]}}}" in entry
            assert entry.count("{") == entry.count("}")


def test_what_latex_reads_otherwise_is_escaped_or_left_out() -> None:
    spec = prior_spec("clip-vit-b16")
    said = spec.model_copy(update={"citation": "Doe & Roe 2020, 50 % of #1_a. section 2"})
    entry = bibtex(said)
    assert entry is not None
    assert r"Doe \& Roe" in entry
    assert r"50 \% of \#1\_a" in entry
    for citation in ("", "no year, a title", "Doe 2020, {braces}", r"Doe 2020, \input{x}"):
        assert bibtex(spec.model_copy(update={"citation": citation})) is None
    assert bibtex(spec.model_copy(update={"arxiv": ()})) is None


def test_show_prints_it_alone() -> None:
    shown = CliRunner().invoke(app, ["show", "clip-vit-b16", "--bibtex"], catch_exceptions=False)
    assert shown.stdout.strip() == bibtex(prior_spec("clip-vit-b16"))
    with pytest.raises(RelaZooError, match="does not cite a paper in full"):
        CliRunner().invoke(app, ["show", "yolov9", "--bibtex"], catch_exceptions=False)
