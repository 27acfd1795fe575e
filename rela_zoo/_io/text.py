"""Text for people: numbers of bytes, lists, near names, and what others wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def format_bytes(count: int) -> str:
    """`621 B`, `44.8 MB`, `1.3 TB`: thousands, one decimal from kilobytes on."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def printable(text: str) -> str:
    r"""Text as a terminal may show it: control characters, escape sequences among them, become `\x1b` and the like.

    Examples:
        >>> print(printable("a\x1b[31mred"))
        a\x1b[31mred
    """
    return "".join(
        one if one in "\n\t" or one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def without_password(address: str) -> str:
    """A web address without the user's name and password that may stand in it.

    Examples:
        >>> without_password("https://me:secret@hub.example/api")
        'https://***@hub.example/api'
    """
    return re.sub(r"(?<=://)[^/@\s]*@", "***@", address)


def did_you_mean(value: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name most like `value`, or None if none is."""
    near = get_close_matches(str(value), list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def listed(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
