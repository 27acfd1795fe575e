"""The one place where errors leave the command line: a few lines and an exit code, and a traceback only if asked for.

| code | meaning |
|------|---------|
| 0 | done |
| 1 | a check found problems (`validate`, `doctor`), or something that the program did not expect |
| 2 | something that whoever gave the command can mend: arguments, configuration, data, disk, a training that diverged |
| 130 | stopped by Ctrl-C |
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from rela_zoo._io.debug import DEBUG_VARIABLE, debugging
from rela_zoo._io.text import printable
from rela_zoo.errors import RelaZooError

# Of these a message says enough; further causes of the kind are listed by the thing that found them.
_MOST_LINES = 14
_LONGEST_LINE = 600

# What a machine refuses, and what to do about it.
_OF_THE_MACHINE = {
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some of your quota, or name a place on another disk",
    errno.EACCES: "name a place that you may write to, or correct the permissions",
    errno.EPERM: "name a place that you may write to, or correct the permissions",
    errno.EROFS: "name a place that can be written to",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "correct the path",
    errno.EEXIST: "name another place",
    errno.ENAMETOOLONG: "shorten the path",
}


def guarded(program: Callable[[], Any]) -> None:
    """Run a program; whatever it raises becomes a message on stderr and an exit code, by the table above.

    Raises:
        SystemExit: with the code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A code page without ×, →, … must not stop a training.
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        program()
    except RelaZooError as error:
        _say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)
    except OSError as error:
        fix = _OF_THE_MACHINE.get(error.errno or 0)
        if fix is None:
            _unexpected(error)
            sys.exit(1)
        _say(f"{error.strerror}: {error.filename or 'while writing'}\n  fix:      {fix}")
        sys.exit(2)
    except Exception as error:
        _unexpected(error)
        sys.exit(1)


def _unexpected(error: Exception) -> None:
    """Name the error and the line of this package that met it."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}rela_zoo{os.sep}" in frame.filename
    ]
    where = f" (at {Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    _say(
        f"{type(error).__name__}: {error}{where}\n"
        f"  this was not expected. {DEBUG_VARIABLE}=1, or `rela-zoo --debug …`, shows where it comes from"
    )


def _say(message: str) -> None:
    """The message in red, short; behind it the traceback, if asked for."""
    if debugging():
        traceback.print_exc()
    lines = [one if len(one) <= _LONGEST_LINE else one[: _LONGEST_LINE - 1] + "…" for one in message.splitlines()]
    if len(lines) > _MOST_LINES and not debugging():
        left = len(lines) - _MOST_LINES + 1
        lines = [*lines[: _MOST_LINES - 1], f"  … and {left} more lines; {DEBUG_VARIABLE}=1 shows all"]
    typer.secho(printable("error: " + "\n".join(lines)), fg=typer.colors.RED, err=True)
