"""A progress bar on stderr: count, rate, remaining time; where nobody watches, a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Literal

from rela_zoo._io.log import logger
from rela_zoo._io.text import format_bytes

# Seconds between lines where there is no terminal to draw a bar on: printed if asked for, else logged.
_LINE_EVERY, _LOG_EVERY = 10.0, 30.0

log = logger(__name__)


class Progress:
    """Counts done things, as a bar on a terminal; elsewhere as a line now and then, printed if "always", else logged.

    Args:
        title: what is going on.
        total: how many there are.
        done: how many were done earlier; they are in the count, not in the rate.
        unit: what is counted, plural; of `bytes` kB, MB and so on are shown.
        show: True for a terminal or the log, "always", or False for neither.

    Attributes:
        limit: how many a second there could be at best, to be shown beside the rate; None if that is not known.
        watched: whether anything is drawn or printed.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, unit: str = "rows", show: bool | Literal["always"] = True
    ) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._first = done, done
        self._lock = threading.Lock()  # downloads tell of their bytes in threads
        terminal = sys.stderr.isatty()
        self._draw = bool(show) and terminal
        self._lines = show == "always" and not terminal
        self._logged = show is True and not terminal
        self.limit: float | None = None

    @property
    def watched(self) -> bool:
        return self._draw or self._lines or (self._logged and log.isEnabledFor(logging.INFO))

    def _rate(self, rate: float) -> str:
        share = "" if not self.limit else f", {min(rate / self.limit, 1):.0%} of the limit"
        return f"{self._amount(rate)}/s{share}" if self._unit == "bytes" else f"{rate:,.0f} {self._unit}/s{share}"

    def _amount(self, count: float) -> str:
        return format_bytes(round(count)) if self._unit == "bytes" else f"{count:,.0f}"

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

            rate, amount = self._rate, self._amount

            class Rate(ProgressColumn):
                def render(self, task: Task) -> Text:
                    return Text("" if task.speed is None else rate(task.speed))

            class Amount(ProgressColumn):
                def render(self, task: Task) -> Text:
                    return Text(f"{amount(task.completed)}/{amount(task.total or 0)}")

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                Amount() if self._unit == "bytes" else MofNCompleteColumn(),
                Rate(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done)
            self._bar.start()
        return self

    def advance(self, count: int) -> None:
        """`count` more are done; from any thread."""
        with self._lock:
            self._done += count
            if self._draw:
                self._bar.advance(self._task, count)
            elif self._lines and (time.monotonic() - self._last >= _LINE_EVERY or self._done >= self._total):
                print(self._line(), file=sys.stderr, flush=True)
            elif self._logged and time.monotonic() - self._last >= _LOG_EVERY:
                log.info("%s", self._line())

    def _line(self) -> str:
        self._last = time.monotonic()
        rate = (self._done - self._first) / max(self._last - self._started, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        done = f"{self._amount(self._done)}/{self._amount(self._total)}"
        return f"{self._title}: {done}, {self._rate(rate)}, {left:,.0f} s left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draw:
            self._bar.stop()
