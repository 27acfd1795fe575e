"""Commands run in this process leave nothing behind."""

import pytest


@pytest.fixture(autouse=True)
def _no_debugging(monkeypatch):
    """What `--debug` sets for a process and its children ends with the test."""
    monkeypatch.setenv("RELA_ZOO_DEBUG", "")
