"""One HTML file that needs nothing beside it: its frame, and the look that all of them share, light and dark."""

from __future__ import annotations

from html import escape

_BASE = """
:root { color-scheme: light dark; --ink: #1c1f23; --dim: #667; --line: #d9dce1; --paper: #fff; --mark: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --dim: #99a; --line: #3a3f47; --paper: #16191d;
  --mark: #6aa5ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 960px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
  padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { white-space: nowrap; font-weight: 600; }
pre { background: color-mix(in srgb, var(--line) 40%, transparent); padding: .7rem; overflow-x: auto;
  white-space: pre-wrap; }
"""


def document(title: str, body: str, style: str = "", script: str = "", head: str = "") -> str:
    """The whole file.

    Args:
        title: plain text.
        body: HTML, in which everything that somebody else wrote is escaped.
        style: CSS, after the common one.
        script: JavaScript, run when the page is there; none by default.
        head: HTML for the head.
    """
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>',
        f"<title>{escape(title)}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        *([head] if head else []),
        f"<style>{_BASE}{style}</style>\n</head>\n<body>",
        body,
        *([f"<script>{script}</script>"] if script else []),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)
