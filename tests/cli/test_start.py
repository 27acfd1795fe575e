"""What every command has: the version, and `-h`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from rela_zoo import __version__
from rela_zoo.cli import app


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"rela-zoo {__version__}\n")


def _commands() -> list[list[str]]:
    """Every command, and those of groups."""
    found: list[list[str]] = [[]]

    def walk(command: object, path: list[str]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            found.append([*path, name])
            walk(inner, [*path, name])

    walk(typer.main.get_command(app), [])
    return found


@pytest.mark.parametrize("path", _commands(), ids=lambda path: " ".join(path) or "rela-zoo")
def test_h_is_help(path: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*path, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert "Usage" in short.stdout


def test_there_are_commands_to_ask() -> None:
    assert {("export",), ("evaluate",), ("transport", "fit")} <= {tuple(one) for one in _commands()}


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_is_not_needed_is_not_loaded(word: str) -> None:
    """Each of these takes longer to import than the rest of the command line together."""
    code = f"import sys; from rela_zoo.cli import app\ntry: app(['{word}'])\nexcept SystemExit: pass\n" \
           "print(sorted({'torch', 'numpy', 'pydantic', 'yaml', 'hydra'} & set(sys.modules)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
