"""Hooks of MkDocs: pages link to files of the repository, `../path`; the site gets copies of them, and links to these.

The pages read the same where the repository is browsed, and the site needs no other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(\[[^\]]*\])\(\.\./([^)#\s]+)\)")


def _place(path: str) -> str:
    """Where a file of the repository lies on the site; Markdown is shown as it is."""
    return f"files/{path}.txt" if path.endswith(".md") else f"files/{path}"


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to.

    Raises:
        FileNotFoundError: a page links to what isn't there.
    """
    for page in list(files.documentation_pages()):
        for path in (match.group(2) for match in _LINK.finditer(page.content_string)):
            if files.get_file_from_path(_place(path)) is None:
                files.append(File.generated(config, _place(path), content=(_ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to the copies; all pages lie in one folder."""
    return _LINK.sub(lambda match: f"{match.group(1)}({_place(match.group(2))})", markdown)
