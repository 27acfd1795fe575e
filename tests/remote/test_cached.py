from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rela_zoo.remote import cached_file
from rela_zoo.remote._cached import hub_cache

SHA = "0123456789" * 4
VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"XDG_CACHE_HOME": "/scratch/x"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/scratch/x"},
        {"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/older"},
        {"HF_HUB_CACHE": "$HOME/hub", "HUGGINGFACE_HUB_CACHE": "/older"},
    ],
    ids=lambda settings: ",".join(settings) or "none",
)
def test_the_cache_is_where_the_library_has_it(monkeypatch, settings):
    """Asked in a process of its own, for the library reads the environment once."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert str(hub_cache()) == done.stdout.strip()


def test_a_file_is_found_at_its_commit_or_at_the_newest(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--me--net"
    place = repo / "snapshots" / SHA / "sub" / "model.safetensors"
    place.parent.mkdir(parents=True)
    assert cached_file("me/net", "sub/model.safetensors", SHA) is None
    place.write_bytes(b"weights")
    assert cached_file("me/net", "sub/model.safetensors", SHA) == place
    assert cached_file("me/net", "sub/model.safetensors", "f" * 40) is None
    assert cached_file("me/net", "sub/model.safetensors", SHA, "dataset") is None
    assert cached_file("me/net", "sub/model.safetensors", None) is None
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(SHA)
    assert cached_file("me/net", "sub/model.safetensors", None) == place


def test_it_agrees_with_the_library(tmp_path, monkeypatch):
    from huggingface_hub import try_to_load_from_cache

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--me--net" / "snapshots" / SHA / "model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    (tmp_path / "models--me--net" / "refs").mkdir()
    (tmp_path / "models--me--net" / "refs" / "main").write_text(SHA)
    for revision in (SHA, None, "f" * 40):
        theirs = try_to_load_from_cache("me/net", "model.safetensors", cache_dir=str(tmp_path), revision=revision)
        ours = cached_file("me/net", "model.safetensors", revision)
        assert ours == (Path(theirs) if isinstance(theirs, str) else None)
