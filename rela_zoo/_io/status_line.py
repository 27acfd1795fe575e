"""One line that is written over while something runs: on a terminal with a bar, in a notebook as text, else nowhere."""

from __future__ import annotations

import sys
from typing import Any, Literal

Place = Literal["terminal", "notebook", "none"]


def place() -> Place:
    """Where a line can be written over: on a terminal's error stream, below a notebook's cell, or nowhere."""
    # Asked first: a notebook's kernel may have inherited a terminal.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return "notebook"
    return "terminal" if sys.stderr.isatty() else "none"


class StatusLine:
    """The line; other output appears above it.

    Args:
        where: from `place()`.

    Examples:
        >>> line = StatusLine("none")
        >>> line.show(0.5, "epoch 1/2")
        >>> line.close()
    """

    def __init__(self, where: Place) -> None:
        self._where, self._width = where, 0
        self._bar: Any = None

    def show(self, done: float, text: str) -> None:
        """Write it anew.

        Args:
            done: fraction in [0, 1].
            text: behind bar and percentage.
        """
        if self._where == "terminal":
            if self._bar is None:
                self._start()
            self._bar.update(self._task, completed=done, line=text)
        elif self._where == "notebook":
            line = f"{done:4.0%} · {text}"
            print(f"\r{line.ljust(self._width)}", end="", file=sys.stderr, flush=True)
            self._width = len(line)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        text = TextColumn("{task.fields[line]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        # Messages on stdout are shown above the line, too.
        self._bar = Progress(
            BarColumn(bar_width=12), TaskProgressColumn(), text, console=Console(stderr=True), refresh_per_second=2
        )
        self._task = self._bar.add_task("", total=1.0, line="")
        self._bar.start()

    def close(self) -> None:
        """Leave the last line as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._width:
            print(file=sys.stderr, flush=True)
            self._width = 0
