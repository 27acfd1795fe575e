"""The check of private imports sees them, and finds none in this project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(root: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/check_imports.py"), str(root)], capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_this_project_has_none() -> None:
    assert check(ROOT) == (0, [])


def test_private_modules_and_names_of_other_rooms_are_found(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write(
        "rela_zoo/hub/_pull.py", "from rela_zoo.hub.cards._zoo import x\nfrom rela_zoo._io.files import atomic_write\n"
    )
    write("rela_zoo/hub/wrong.py", "def f():\n    from rela_zoo.prior import _load\n")
    write("rela_zoo/demo.py", "import rela_zoo.prior._load\n")
    write("tests/hub/test_pull.py", "from rela_zoo.hub import _pull\nfrom rela_zoo.data.sets import _Indexed\n")
    write("scripts/make.py", "from rela_zoo.hub._pull import pull\nfrom rela_zoo import __version__\n")
    code, found = check(tmp_path)
    assert code == 1
    assert found == [
        "rela_zoo/demo.py:1: rela_zoo.prior._load is private to rela_zoo.prior",
        "rela_zoo/hub/wrong.py:2: rela_zoo.prior._load is private to rela_zoo.prior",
        "scripts/make.py:1: rela_zoo.hub._pull.pull is private to rela_zoo.hub",
        "tests/hub/test_pull.py:2: rela_zoo.data.sets._Indexed is private to rela_zoo.data",
    ]
