"""A small Hub of the tests' own: a real HTTP server that the real `huggingface_hub` client talks to.

`HubServer` starts two ports on 127.0.0.1, the Hub and the CDN that large files are redirected to. Repositories live in
memory (`store.Store`), with commits, tags, pull requests and large files kept by sha256. `faults.Faults` breaks things
on purpose. The fixture `hub` (in `fixture`) gives a fresh one a test.
"""

from __future__ import annotations

from hub_server.faults import Fault
from hub_server.server import HubServer
from hub_server.store import READ, WRITE, Store

__all__ = ["READ", "WRITE", "Fault", "HubServer", "Store"]
