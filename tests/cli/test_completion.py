"""Completion as bash runs it: Typer's script, and this program behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rela_zoo
from rela_zoo.cli import _complete

LINES = {
    ("rela-zoo", "pre"): {"pretrain"},
    ("rela-zoo", "transport", "f"): {"fit"},
    ("rela-zoo", "pretrain", "--config-name", "simc"): {"simclr"},
    ("rela-zoo", "pretrain", "optimizer.l"): {"optimizer.lr="},
    ("rela-zoo", "pretrain", "max_epochs", "rela.hand"): {"rela.handover=", "rela.handover_at="},
    ("rela-zoo", "show", "clip-vit-b"): {"clip-vit-b16", "clip-vit-b32"},
    ("rela-zoo", "list", "--wi"): {"--wide"},
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "rela-zoo"
    program.write_text(f"#!{sys.executable}\nfrom rela_zoo.cli import main\nmain()\n")
    program.chmod(0o755)
    home = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(rela_zoo.__file__).parents[1]),
    }
    script = subprocess.run(
        [program], capture_output=True, text=True, check=False, env={**home, "_RELA_ZOO_COMPLETE": "source_bash"}
    ).stdout
    assert "complete" in script
    (tmp_path / "script").write_text(script)
    calls = "\n".join(
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _rela_zoo_completion rela-zoo; "
        'echo "${COMPREPLY[@]}"'
        for words in LINES
    )
    done = subprocess.run(
        ["bash", "-c", f"source script\n{calls}"], capture_output=True, text=True, check=True, cwd=tmp_path, env=home
    )
    for words, line in zip(LINES, done.stdout.splitlines(), strict=True):
        offered = line.split()
        assert LINES[words] <= set(offered), (words, done.stderr[-500:])
        assert all(one.startswith(words[-1]) for one in offered), words


def test_what_stands_behind_a_command() -> None:
    assert _complete.priors("cifar10-resnet2") == ["cifar10-resnet20", "cifar10-resnet20-akamaster"]
    assert _complete.configurations("si") == ["simclr", "simsiam"]
    assert "rela=cifar10-resnet20" in _complete.overrides("rela=cifar")
    assert _complete.overrides("max_ep") == ["max_epochs="]
