"""What a published card and entry say of costs, sizes and versions; and that its snippets run as they stand."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rela_zoo import open_embeddings
from rela_zoo.cli import app
from rela_zoo.errors import HubError
from rela_zoo.hub import at_commit
from rela_zoo.registry import prior_spec

runner = CliRunner()


def card_of(hub: Any, repo: str = "org/home-made") -> str:
    return str(hub.store.repos["model", repo].head.files["README.md"].data.decode())


def test_costs_sizes_and_versions_are_said(writer: Any, home: Any, send: Any) -> None:
    done = send()
    card = card_of(writer)
    spec = prior_spec(done.name)
    assert spec.parameters is not None
    assert f"| parameters | {spec.parameters:,} |" in card
    assert f"| multiply-adds | {spec.gmacs:g} billion an image |" in card
    assert f"torch {version('torch')}, timm {version('timm')}" in card
    held = spec.artefacts["zoo"].embeddings
    table = open_embeddings(home.embeddings)
    assert (held.rows, held.bytes) == (20, sum(one.bytes for one in table.info.shards) + table.info.ids.bytes)
    shown = runner.invoke(app, ["show", "hf://org/home-made"], catch_exceptions=False).stdout
    assert "zoo: embeddings (20 rows, " in shown
    assert f"{spec.parameters:,}" in shown


def test_an_entry_without_sizes_is_shown_as_before(writer: Any, send: Any) -> None:
    send()
    raw = yaml.safe_load(writer.store.repos["model", "org/home-made"].head.files["prior.yaml"].data)
    for one in ("rows", "bytes"):
        del raw["artefacts"]["zoo"]["embeddings"][one]
    writer.store.add("org/home-made", {"prior.yaml": yaml.safe_dump(raw).encode()})
    shown = runner.invoke(app, ["show", at_commit("hf://org/home-made")], catch_exceptions=False).stdout
    assert "zoo: embeddings, transport" in shown


def test_the_snippets_of_a_card_run(writer: Any, home: Any, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = send()
    card = card_of(writer)
    assert "COMMIT" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.chdir(home.folder)
    Path("DIR").symlink_to(home.images)
    Path("embeddings").rename("before")
    exec(code, names)
    assert names["name"] == done.name
    assert len(names["table"]) == len(names["own"]) == 20
    (shell,) = re.findall(r"```sh\n(.*?)```", card, flags=re.DOTALL)
    resolve = re.search(r"PRIOR=\$\(rela-zoo (resolve \S+)\)", shell)
    assert resolve is not None
    assert runner.invoke(app, resolve[1].split(), catch_exceptions=False).stdout.strip() == done.name
    pull = re.search(r"rela-zoo (pull \$PRIOR .*)", shell)
    assert pull is not None
    pulled = runner.invoke(app, pull[1].replace("$PRIOR", str(done.name)).split(), catch_exceptions=False)
    assert f"rela.prior={done.name}" in pulled.stdout


def test_resolve_takes_tags_and_pages_and_nothing_else(writer: Any, home: Any, send: Any) -> None:
    first = send()
    home.change_entry(title="Another title")
    second = send()

    def resolved(name: str) -> str:
        return runner.invoke(app, ["resolve", name], catch_exceptions=False).stdout.strip()

    assert resolved("hf://org/home-made") == resolved("https://huggingface.co/org/home-made") == second.name
    assert resolved("hf://org/home-made@v1") == resolved(str(first.name)) == first.name
    for name in ("clip-vit-b16", "org/home-made"):
        with pytest.raises(HubError, match="no address on the Hub"):
            resolved(name)
