"""What was said at the first publication stays when the second does not say it again."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rela_zoo.errors import RegistryError
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish import Details, publish

NUMBER = Measurement(
    prior="home-made", measure="linear probe", data="pets --> and <b>", value=0.5, command="run it",
    hub_dataset="org/pets", results="r.json", key=("x",),
)  # fmt: skip
SAID = Details(
    title="Mine, at last", training_data="Pictures of ants", citation="Me, 2026", arxiv=("2405.14669",),
    base_model="org/base", source_datasets=("org/pets",),
)  # fmt: skip


def head(hub: Any, kind: str = "model", repo: str = "org/home-made") -> dict[str, bytes]:
    return {path: one.data for path, one in hub.store.repos[kind, repo].head.files.items()}


@pytest.fixture
def bare(home: Any) -> Any:
    """An entry that says nothing but what it must."""
    raw = yaml.safe_load(home.entry.read_text())
    for name in ("training_data", "citation", "arxiv"):
        raw.pop(name, None)
    home.entry.write_text(yaml.safe_dump(raw))
    return home


def test_a_second_run_without_the_words_deletes_none(writer: Any, bare: Any, send: Any) -> None:
    send(details=SAID, notes="## Read this\n", measured=[NUMBER])
    before = head(writer), head(writer, "dataset", "org/home-made-embeddings")
    again = send(details=Details(title="Mine, at last"))
    assert not again.changed
    assert (head(writer), head(writer, "dataset", "org/home-made-embeddings")) == before
    changed = send(details=Details(title="Mine, at last", citation="Me, 2027"))
    assert changed.changed
    entry, card = yaml.safe_load(head(writer)["prior.yaml"]), head(writer)["README.md"].decode()
    assert (entry["training_data"], entry["citation"]) == ("Pictures of ants", "Me, 2027")
    for words in ("## Read this", "model-index", "org/base", "Me, 2027"):
        assert words in card


def test_replace_begins_anew(writer: Any, bare: Any, send: Any) -> None:
    send(details=SAID, notes="## Read this\n", measured=[NUMBER])
    send(replace=True)
    assert "training_data" not in yaml.safe_load(head(writer)["prior.yaml"])
    assert "## Read this" not in head(writer)["README.md"].decode()


def test_a_pull_request_proposes_to_delete_nothing(
    writer: Any, bare: Any, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(details=SAID, notes="## Read this\n", measured=[NUMBER])
    monkeypatch.setenv("HF_TOKEN", "hf_other_writer")
    plan = publish("org/home-made", entry=bare.entry, pr=True, dry_run=True).plan
    sent = {one.path: bytes(one.content).decode() for one in plan.model.send if isinstance(one.content, bytes)}
    for text in sent.values():
        assert "Me, 2026" in text or "citation" not in text
    assert "## Read this" in sent.get("README.md", "## Read this")


def test_results_of_another_prior_are_refused(writer: Any, send: Any) -> None:
    with pytest.raises(RegistryError, match=r"(?s)not of the prior.*home-made.*clip-vit-b16"):
        send(measured=[NUMBER, NUMBER.model_copy(update={"prior": "clip-vit-b16"})])
    assert not writer.calls("/commit/")
