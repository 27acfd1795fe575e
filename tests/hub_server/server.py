"""The two ports of the server, and how a request is answered: log, faults, routing, errors."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_server import routes, routing, uploads  # noqa: F401  (each registers its calls)
from hub_server.faults import Fault, Faults
from hub_server.store import HubError, Store, Token


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep for their next request."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


class HubServer:
    """A Hub on two ports of 127.0.0.1.

    Attributes:
        url: of the Hub, for `HF_ENDPOINT`.
        cdn_url: of the port that large files come from.
        store: the repositories and the tokens.
        faults: the switches.
        requests: (method, path) of every request to either port, in order.
        xet: whether lists of files say that large ones are in the Hub's Xet storage, which is not here.
    """

    xet = False

    def __init__(self, store: Store | None = None) -> None:
        self.store, self.faults = store or Store(), Faults()
        self.requests: list[tuple[str, str]] = []
        self._port = self._cdn_port = 0
        self._servers: list[_Server] = []
        self.start()

    def start(self) -> None:
        """Start, or start again on the same ports."""
        for port in (self._port, self._cdn_port):
            server = _Server(("127.0.0.1", port))
            server.hub = self
            self._servers.append(server)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._port, self._cdn_port = (server.server_address[1] for server in self._servers)
        self.url, self.cdn_url = f"http://127.0.0.1:{self._port}", f"http://127.0.0.1:{self._cdn_port}"

    def stop(self) -> None:
        """Stop listening: connections are refused from now on; what is stored stays."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()
        self._servers = []

    def fail(self, path: str = "", **switches: Any) -> Fault:
        """Switch a fault on; see `Fault`."""
        return self.faults.add(Fault(path, **switches))

    def calls(self, pattern: str = "", method: str = "") -> list[tuple[str, str]]:
        """Requests so far whose path matches."""
        return [one for one in self.requests if re.search(pattern, one[1]) and method in ("", one[0])]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _answer(self) -> None:
        hub = self.server.hub
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self._chunked()
        fault = hub.faults.match(self.command, path)
        if fault is not None:
            time.sleep(fault.slow)
            if fault.cut == 0:
                return self._cut()
            if fault.status is not None:
                headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
                return self._error(HubError(fault.status, fault.code, fault.message), headers)
        request = routing.Request(
            hub, self.command, parts.path, parse_qs(parts.query), self.headers, body, self._token(hub)
        )
        try:
            response = routing.answer(request)
        except HubError as error:
            return self._error(error)
        self._send(response, fault)
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _token(self, hub: HubServer) -> Token | None:
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        return hub.store.tokens.get(secret) if scheme == "Bearer" else None

    def _chunked(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _error(self, error: HubError, more: dict[str, str] | None = None) -> None:
        headers = {"X-Error-Message": error.message, **({"X-Error-Code": error.code} if error.code else {})}
        body = json.dumps({"error": error.message}).encode()
        self._send(routing.Response(error.status, body, {**headers, **(more or {})}), None)

    def _send(self, response: routing.Response, fault: Fault | None) -> None:
        body = response.body
        if fault is not None and fault.flip is not None and fault.flip < len(body) and self.command == "GET":
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 1]) + body[fault.flip + 1 :]
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = len(body) if fault is None or fault.cut is None else min(fault.cut, len(body))
        if fault is not None and fault.chunk_delay:
            for start in range(0, stop, 4096):
                self.wfile.write(body[start : min(start + 4096, stop)])
                self.wfile.flush()
                time.sleep(fault.chunk_delay)
        else:
            self.wfile.write(body[:stop])
        if stop < len(body):
            self.wfile.flush()
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
