"""Switches that make the server fail on purpose."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong with requests of one kind.

    Attributes:
        path: regular expression searched in the path of the URL, on either port.
        method: of HTTP; any when empty.
        status: answer with this status instead.
        code: `X-Error-Code` of that answer.
        message: of that answer.
        retry_after: seconds, header of that answer.
        cut: close the connection after this many bytes of the body (0: before any answer).
        flip: position of a byte of the body to be changed.
        slow: seconds to wait before the answer.
        chunk_delay: seconds between pieces of 4096 bytes of the body.
        after: let this many matching requests through first.
        times: how many requests are hit; None for all.
    """

    path: str = ""
    method: str = ""
    status: int | None = None
    code: str | None = None
    message: str = "injected"
    retry_after: float | None = None
    cut: int | None = None
    flip: int | None = None
    slow: float = 0.0
    chunk_delay: float = 0.0
    after: int = 0
    times: int | None = None
    hits: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)


class Faults:
    """The faults in force; the first that matches a request hits it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def match(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if (fault.method and fault.method != method) or not re.search(fault.path, path):
                    continue
                fault.seen += 1
                if fault.seen <= fault.after or (fault.times is not None and fault.hits >= fault.times):
                    continue
                fault.hits += 1
                return fault
        return None
