"""What the package tells its user: ordinary loggers below `rela_zoo`, spoken by one process of a job.

Importing the package configures nothing. A program (the command line, the plugin, a training) calls `speak`, which puts
a plain handler in place unless the user has configured logging.
"""

from __future__ import annotations

import logging
import sys

from rela_zoo._io import ranks

_ROOT = "rela_zoo"


def logger(module: str) -> logging.Logger:
    """The logger of a module: `log = logger(__name__)`. `info` is for the user's eyes, `debug` for ours."""
    found = logging.getLogger(module)
    if not any(isinstance(one, _FirstRankOnly) for one in found.filters):
        found.addFilter(_FirstRankOnly())
    return found


class _FirstRankOnly(logging.Filter):
    """Lets other processes than the first say only what is wrong."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or ranks.is_first()


class _Plain(logging.Handler):
    """Bare messages on the stream that is stdout, or stderr, at that moment."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self.stream_name = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream = getattr(sys, self.stream_name)
        try:
            print(self.format(record), file=stream, flush=True)
        except UnicodeEncodeError:
            # A code page without ×, →, … must not stop a training.
            encoding = getattr(stream, "encoding", None) or "ascii"
            print(self.format(record).encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def speak(stream: str | None = None) -> None:
    """Let messages of the package reach the user, unless logging is configured.

    Args:
        stream: `stdout`, or `stderr` where stdout carries a result; None keeps what an earlier call chose, or stdout.
    """
    root = logging.getLogger(_ROOT)
    own = next((one for one in root.handlers if isinstance(one, _Plain)), None)
    if own is not None:
        own.stream_name = stream or own.stream_name
    elif not root.handlers and not logging.getLogger().handlers:
        root.addHandler(_Plain(stream or "stdout"))
    if root.level == logging.NOTSET:
        root.setLevel(logging.INFO)
    # Hydra's `job_logging: disabled`, solo-learn's default, switches off every logger that is there by then.
    for name in list(logging.Logger.manager.loggerDict):
        if name == _ROOT or name.startswith(f"{_ROOT}."):
            logging.getLogger(name).disabled = False
