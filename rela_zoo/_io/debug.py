"""Whether tracebacks are asked for."""

from __future__ import annotations

import os

DEBUG_VARIABLE = "RELA_ZOO_DEBUG"


def debugging() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "").lower() not in ("", "0", "false", "no")
