"""Numbers of bytes for people."""

from __future__ import annotations


def format_bytes(count: int) -> str:
    """`621 B`, `44.8 MB`, `1.3 TB`: thousands, one decimal from kilobytes on."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
