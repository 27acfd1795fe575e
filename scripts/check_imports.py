"""Find imports of private modules and names across rooms, which import-linter can't see.

python scripts/check_imports.py [ROOT]    prints each and exits 1 if there is one

A room is a folder or module directly in `rela_zoo`. Whatever begins with an underscore inside it is its own affair, and
that of its tests (`tests/<room>/`). That arrows between rooms only point down is checked by `lint-imports`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "rela_zoo"
SEARCHED = (PACKAGE, "hydra_plugins", "scripts", "tests")


def room_of(path: Path) -> str | None:
    """The room whose privates a file may import: of `rela_zoo/hub/_pull.py` and `tests/hub/test_pull.py`, `hub`."""
    return path.parts[1] if path.parts[0] in (PACKAGE, "tests") and len(path.parts) > 2 else None


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported from the package."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield node.lineno, name


def violations(root: Path) -> list[str]:
    """`file:line: name` of every private import across rooms below a project's folder."""
    found = []
    for file in sorted(path for folder in SEARCHED for path in (root / folder).rglob("*.py")):
        path = file.relative_to(root)
        for line, name in imported(ast.parse(file.read_text(encoding="utf-8"))):
            _, room, *inside = [*name.split("."), ""]
            private = any(part.startswith("_") and not part.startswith("__") for part in inside)
            if private and room != room_of(path):
                found.append(f"{path}:{line}: {name} is private to {PACKAGE}.{room}")
    return found


def main() -> int:
    """Print what was found."""
    found = violations(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
