"""From a request to the function that answers it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hub_server.store import HubError, Token

if TYPE_CHECKING:
    from hub_server.server import HubServer


@dataclass
class Request:
    hub: HubServer
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    token: Token | None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


_Route = Callable[..., Response]
_ROUTES: list[tuple[str, re.Pattern[str], _Route]] = []


def route(method: str, pattern: str) -> Callable[[_Route], _Route]:
    def register(function: _Route) -> _Route:
        _ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def answer(request: Request) -> Response:
    """Find the function of a request. Parts of the path are unquoted after it is split, so a revision may hold `/`."""
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and wanted == method:
            return function(request, **{key: unquote(value or "") for key, value in match.groupdict().items()})
    raise HubError(404, None, f"no route {request.method} {request.path}")


def as_json(value: Any, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode())


ID = r"(?P<repo>[^/]+/[^/]+)"
API = r"/api/(?P<kind>model|dataset)s/" + ID
