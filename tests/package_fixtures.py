"""Packages of other people's, installed for a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from importlib import invalidate_caches
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Site:
    """A folder of installed packages, put in front of the path of processes started here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(self, package: str, code: str, group: str, provides: dict[str, str]) -> None:
        """Install a package of one module, as pip leaves it behind.

        Args:
            package: its name on an index; the module's has underscores.
            code: of the module.
            group: of its entry points.
            provides: their names → what they name in the module.
        """
        module = package.replace("-", "_")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"[{group}]", *(f"{name} = {module}:{attribute}" for name, attribute in provides.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python code that sees the packages; stderr is part of stdout."""
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty folder of installed packages."""
    return Site(tmp_path / "site")


class WeightPackages:
    """Packages of weights, installed for this process as pip leaves them behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(self, distribution: str, file: str, data: bytes, version: str = "1.0") -> Path:
        """Install a package of one file; its module must not be imported by anybody.

        Args:
            distribution: its name on an index; the module's has underscores.
            file: path of the file from the folder of packages.
            data: of the file.
            version: of the package; another one replaces what is installed.

        Returns:
            the file.
        """
        module = distribution.replace("-", "_")
        for old in self.folder.glob(f"{module}-*.dist-info"):
            shutil.rmtree(old)
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        (self.folder / module).mkdir(exist_ok=True)
        (self.folder / module / "__init__.py").write_text("raise SystemExit('a package of weights was imported')\n")
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
        invalidate_caches()
        return path


@pytest.fixture
def weight_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightPackages:
    """No package of weights is installed yet."""
    packages = WeightPackages(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(packages.folder))
    return packages
