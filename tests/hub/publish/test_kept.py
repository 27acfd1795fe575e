"""What was said at the first publication stays when the second does not say it again."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rela_zoo.errors import RegistryError
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish import Details, publish
from rela_zoo.hub.publish._uploads import seal_card
from rela_zoo.registry import prior_spec

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


def _as_before(hub: Any) -> str:
    """The model card as an older version wrote it: without the line that holds what it was made of."""
    card = head(hub)["README.md"].decode()
    body = "\n".join(line for line in card.splitlines()[:-1] if not line.startswith("<!-- rela-zoo publication"))
    older = seal_card(body.rstrip("\n") + "\n")
    hub.store.add("org/home-made", {"README.md": older.encode()})
    return older


@pytest.mark.parametrize("notes", ["## Read this\n\nMore | of it, and\n\n- a list\n", ""])
@pytest.mark.parametrize("entry_notes", [["A trap."], []])
def test_a_card_from_before_keeps_notes_and_results(
    writer: Any, bare: Any, send: Any, notes: str, entry_notes: list[str]
) -> None:
    raw = yaml.safe_load(bare.entry.read_text())
    bare.entry.write_text(yaml.safe_dump({**raw, "notes": entry_notes}))
    other = NUMBER.model_copy(update={"measure": "20-NN", "hub_dataset": None, "value": 0.123})
    send(details=SAID, notes=notes, measured=[NUMBER, other])
    rows = head(writer, "dataset", "org/home-made-embeddings")
    older = _as_before(writer)
    title = Details(title=SAID.title)  # the entry itself says another
    again = send(details=title)
    card = head(writer)["README.md"].decode()
    kept = [line for line in older.splitlines() if line and not line.startswith("<!--")]
    assert [line for line in card.splitlines() if line and not line.startswith("<!--")] == kept
    assert again.changed, "the line that holds it is there now"
    assert not send(details=title).changed
    assert head(writer, "dataset", "org/home-made-embeddings") == rows
    assert "org/pets" in rows["README.md"].decode()


def test_a_card_of_another_hand_is_not_taken_apart(writer: Any, bare: Any, send: Any, said: Any) -> None:
    send(details=SAID, notes="## Read this\n", measured=[NUMBER])
    writer.store.add("org/home-made", {"README.md": b"# Mine\n\nAll my own words.\n"})
    send(replace_card=True)
    assert "are lost if they are not given again" in str(said)


def test_an_entry_from_before_there_were_transports_between_priors(writer: Any, bare: Any, send: Any) -> None:
    """What a version wrote is what this one reads: no new field is demanded of an old entry."""
    done = send()
    entry = yaml.safe_load(head(writer)["prior.yaml"])
    assert set(entry["artefacts"]["zoo"]) == {"embeddings", "transport"}
    assert prior_spec(done.name).artefacts["zoo"].to == {}
