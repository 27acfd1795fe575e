"""A progress bar on stderr: count, rate, remaining time; silent when nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Literal

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal to draw a bar on


class Progress:
    """Counts done things, as a bar on a terminal; elsewhere as a line now and then if "always", or not at all.

    Args:
        title: what is going on.
        total: how many there are.
        done: how many were done earlier; they are in the count, not in the rate.
        unit: what is counted, plural.
        show: True for a terminal only, "always", or False.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, unit: str = "rows", show: bool | Literal["always"] = True
    ) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._first = done, done
        terminal = sys.stderr.isatty()
        self._draw = bool(show) and terminal
        self._lines = show == "always" and not terminal

    def __enter__(self) -> Progress:
        self._started = self._last = time.monotonic()
        if self._draw:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                ProgressColumn,
                Task,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar
            from rich.text import Text

            unit = self._unit

            class Rate(ProgressColumn):
                def render(self, task: Task) -> Text:
                    return Text("" if task.speed is None else f"{task.speed:,.0f} {unit}/s")

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                Rate(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done)
            self._bar.start()
        return self

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self._done += count
        if self._draw:
            self._bar.advance(self._task, count)
        elif self._lines and (time.monotonic() - self._last >= _LINE_EVERY or self._done >= self._total):
            self._last = time.monotonic()
            rate = (self._done - self._first) / max(self._last - self._started, 1e-9)
            left = (self._total - self._done) / max(rate, 1e-9)
            print(
                f"{self._title}: {self._done:,}/{self._total:,}, {rate:,.0f} {self._unit}/s, {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draw:
            self._bar.stop()
