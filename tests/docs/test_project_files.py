"""What stands beside the package: paths that are named exist, and files for other programs are what those expect."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import yaml

import rela_zoo
from rela_zoo.hosts.builtin.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]


def test_what_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:rela_zoo|tests|scripts|docs|registry|model_cards|\.ci)/[^`\s]*)`", text)
    named += re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(named) > 30
    assert [one for one in named if "<" not in one and not (ROOT / one).exists()] == []
    # Of a thing to be added the folder exists, and others like it are in there.
    for one in named:
        if "<" in one:
            assert list((ROOT / one).parent.glob(f"*{Path(one).suffix}")), one


def test_how_to_add_a_method_is_how_methods_are_made() -> None:
    for name, method in METHODS.items():
        assert method.__module__ == f"rela_zoo.hosts.builtin.methods.{name}"
        assert (ROOT / "rela_zoo" / "conf" / f"{name}.yaml").is_file()


def test_the_citation_is_of_the_paper_and_the_project() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert found["authors"] == [{"name": "rela_zoo contributors"}]
    assert found["references"][0]["url"] == "https://arxiv.org/abs/2405.14669"
    # The version stands in one file.
    assert "version" not in found


def test_the_hooks_call_tools_of_the_environment() -> None:
    """What a commit is checked by is what the checks of a change run, with programs of the extra `dev`."""
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repo["repo"] == "local"
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        program, *words = hook["entry"].split()
        assert f".venv/bin/{program}" in ci
        assert shutil.which(program, path=str(Path(sys.executable).parent)), program
        assert all((ROOT / word).exists() for word in words if word.endswith(".py"))


def test_the_version_stands_in_one_file() -> None:
    said = f'"{rela_zoo.__version__}"'
    holders = [path for path in (ROOT / "rela_zoo").rglob("*.py") if said in path.read_text(encoding="utf-8")]
    assert holders == [ROOT / "rela_zoo" / "_version.py"]
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
