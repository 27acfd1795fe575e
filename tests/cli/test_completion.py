"""Scripts that complete the command line, run by the shells themselves where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rela_zoo.cli import app

LINES = {
    ("rela-zoo", "pre"): {"pretrain"},
    ("rela-zoo", "transport", "f"): {"fit"},
    ("rela-zoo", "completion", ""): {"bash", "zsh", "fish"},
    ("rela-zoo", "pretrain", "--config-name", "simc"): {"simclr"},
    ("rela-zoo", "pretrain", "optimizer.l"): {"optimizer.lr="},
    ("rela-zoo", "pretrain", "max_epochs=3", "rela.hand"): {"rela.handover=", "rela.handover_at="},
    ("rela-zoo", "pretrain", "rela=cifar10-resnet20"): {"rela=cifar10-resnet20"},
    ("rela-zoo", "show", "clip-vit-b"): {"clip-vit-b16", "clip-vit-b32"},
    ("rela-zoo", "list", "--wi"): {"--wide"},
}


def script(shell: str, folder: Path) -> Path:
    done = CliRunner().invoke(app, ["completion", shell])
    assert done.exit_code == 0
    path = folder / f"rela-zoo.{shell}"
    path.write_text(done.stdout)
    return path


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def test_bash_completes(tmp_path: Path) -> None:
    shell, source = needs("bash"), script("bash", tmp_path)
    for words, wanted in LINES.items():
        code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rela_zoo; echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            [shell, "-c", code, "-", str(source), *words], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert wanted <= set(done.stdout.split()), words
        assert all(one.startswith(words[-1]) for one in done.stdout.split())


def test_fish_completes(tmp_path: Path) -> None:
    shell, source = needs("fish"), script("fish", tmp_path)
    for words, wanted in LINES.items():
        code = f"source {source}; complete -C '{' '.join(words)}'"
        done = subprocess.run([shell, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert wanted <= {line.split("\t")[0] for line in done.stdout.splitlines()}, words


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    shell, source = needs("zsh"), script("zsh", tmp_path)
    code = f"autoload -U compinit; compinit -u -D; source {source}; echo ${{_comps[rela-zoo]}}"
    done = subprocess.run([shell, "-f", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("_rela_zoo\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_there(shell: str) -> None:
    text = CliRunner().invoke(app, ["completion", shell]).stdout
    command = typer.main.get_command(app)
    for name in command.commands:  # type: ignore[attr-defined]
        assert f"{name}" in text
    assert "'transport fit'" in text or "-a fit" in text


def test_another_shell_is_refused() -> None:
    assert CliRunner().invoke(app, ["completion", "tcsh"]).exit_code == 2
