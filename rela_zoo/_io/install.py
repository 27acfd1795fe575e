"""How this package is installed: said here and nowhere else, so that nothing advertises a name that no index has."""

from __future__ import annotations

# No release is on a package index, and the name there may become somebody else's.
_CHECKOUT = "PATH/TO/rela_zoo"


def install_command(extra: str = "") -> str:
    """The command, for a checkout of the project, with one of its extras if it is named."""
    return f"pip install '{_CHECKOUT}[{extra}]'" if extra else f"pip install {_CHECKOUT}"
