"""Fixture `hub`: a fresh server, and an environment in which the client of this process and of its children uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server.server import HubServer

_CONSTANTS = {
    "ENDPOINT": lambda hub, home: hub.url,
    "HF_HUB_CACHE": lambda hub, home: str(home / "hub"),
    "HF_HUB_DISABLE_XET": lambda hub, home: True,
    "HF_HUB_OFFLINE": lambda hub, home: False,
    "HF_TOKEN_PATH": lambda hub, home: str(home / "token"),
    "HF_STORED_TOKENS_PATH": lambda hub, home: str(home / "stored_tokens"),
    "HUGGINGFACE_CO_URL_TEMPLATE": lambda hub, home: hub.url + "/{repo_id}/resolve/{revision}/{filename}",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with nothing in it, an empty Hub cache, an empty home of rela-zoo, and no token.

    The client reads its settings when it is imported, so they are set both in the environment (for processes that a
    test starts) and on its module of constants (for this one). Tokens: `hf_writer`, `hf_other_writer`, `hf_reader`,
    `hf_outsider`; give one with `monkeypatch.setenv("HF_TOKEN", …)`.
    """
    from huggingface_hub import constants, hf_api

    server, home = HubServer(), tmp_path / "hf"
    for name, value in {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RELA_ZOO_HOME": str(tmp_path / "rela_zoo"),
        "RELA_ZOO_INDEX": "rela-zoo/registry",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value_of in _CONSTANTS.items():
        monkeypatch.setattr(constants, name, value_of(server, home), raising=False)
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)  # behind the functions of the module, made at import
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
    for name in proxies:
        monkeypatch.delenv(name)
    yield server
    server.stop()
