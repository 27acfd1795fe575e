"""The pages of README.md and docs/: what they tell people to type is what the program takes, and the site is built."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import rela_zoo
from rela_zoo.cli import app
from rela_zoo.demo import write_digits
from rela_zoo.engine.config import rela_defaults

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)


def commands(page: Path) -> Iterator[str]:
    """What stands after `rela-zoo` in blocks and between backquotes, as far as it is complete."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(rela-zoo [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and words[0].endswith("rela-zoo") and len(words) > 1 and "…" not in part:
                yield shlex.join(words[1:])


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 150


def unknown(command: str) -> list[str]:
    """Names of subcommands and options that the program does not have."""
    found: Any = COMMAND
    wrong = []
    for word in shlex.split(command):
        if word.startswith("-"):
            known = {opt for one in found.params for opt in (*one.opts, *one.secondary_opts)} | {"-h", "--help"}
            wrong += [word] if word.partition("=")[0] not in known else []
        elif hasattr(found, "commands"):
            if word not in found.commands:
                return [*wrong, word]
            found = found.commands[word]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    assert {command: wrong for command in commands(page) if (wrong := unknown(command))} == {}


def test_commands_are_found_and_wrong_ones_are_told() -> None:
    assert len([one for page in PAGES for one in commands(page)]) > 40
    assert unknown("embed cifar10-resnet20 DIR --no-such-option") == ["--no-such-option"]
    assert unknown("transport fitt DIR") == ["fitt"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(
        r"\]\(([^)#\s]+)", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    )
    assert [one for one in links if "://" not in one and not (page.parent / one).exists()] == []


def test_the_table_of_the_configuration_has_every_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = page[page.index("| key |") : page.index("Every mistake")]
    named = {
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert named == set(rela_defaults())


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = {one.rsplit(".", 1)[1] for one in re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE)}
    assert named == set(rela_zoo.__all__) - {"__version__"}


def test_messages_are_messages_of_the_package() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page[page.index("| message |") :]
    named = [part.strip() for one in re.findall(r"^\| `([^`]*)`", table, flags=re.MULTILINE) for part in one.split("…")]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rela_zoo").rglob("*.py"))
    assert len(named) > 10
    assert [one for one in named if one not in code] == []


def test_the_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block at the top of the reference."""
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    write_digits("digits")
    (tmp_path / "digits" / "train").rename("DIR")
    names: dict[str, object] = {}
    exec(block, names)
    assert tuple(names["targets"].shape) == (3, 32)  # type: ignore[attr-defined]
    assert {one.prior for one, _ in names["ranking"]} == {"cifar10-resnet20", "random"}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    """Warnings are errors: a link that leads nowhere, a name without a docstring to be found."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = re.findall(r"(\w+)\.md", str(nav))
    # No page is forgotten in the table of contents.
    assert sorted(pages) == sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
    for name in pages:
        assert (tmp_path / "site" / ("" if name == "index" else name) / "index.html").is_file()
    assert 'id="rela_zoo.embeddings.embed"' in (tmp_path / "site" / "reference" / "index.html").read_text("utf-8")
    assert (tmp_path / "site" / "files" / "scripts" / "results" / "demo" / "figure.png").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_quick_start_runs(tmp_path: Path) -> None:
    """Its commands as they are written, one after another, on the images that the demo would have written."""
    write_digits(tmp_path / "rela_zoo_demo" / "data")
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={
            "PATH": path, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
            "RELA_ZOO_INDEX": "none", "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("held-out accuracy") == 2
    assert (tmp_path / "student.safetensors").is_file()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(ROOT / "docs" / "first_look.ipynb", 4)
    NotebookClient(book, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    # A stream comes in as many pieces as it likes.
    told = "".join(
        out["text"] for out in book.cells[-1].outputs if out["output_type"] == "stream" and out["name"] == "stdout"
    )
    assert re.findall(r"^with the prior .*20-NN [\d.]+%$", told, flags=re.MULTILINE)


def test_the_page_of_the_configuration_has_the_defaults() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    said: dict[str, Any] = {}
    for keys, values in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ((?:`[^`]+`(?:, )?)+) \|", page, flags=re.MULTILINE):
        names, defaults = (re.findall(r"`([^`]+)`", one) for one in (keys, values))
        said |= dict(
            zip(names, map(yaml.safe_load, defaults if len(defaults) > 1 else defaults * len(names)), strict=True)
        )
    assert said == rela_defaults()
