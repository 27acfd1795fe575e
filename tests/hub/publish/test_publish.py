"""Publishing on a real server, with the real client: what arrives, what is not sent twice, what others keep."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi
from PIL import Image
from typer.testing import CliRunner

from rela_zoo import embed, load_prior
from rela_zoo.cli import app
from rela_zoo.errors import HubError
from rela_zoo.hub.publish import Details, prepare, publish
from rela_zoo.registry import read_entry

runner = CliRunner()


def model(hub: Any, repo: str = "org/home-made") -> Any:
    return hub.store.repos["model", repo]


def data(hub: Any, repo: str = "org/home-made-embeddings") -> Any:
    return hub.store.repos["dataset", repo]


def check_manifest(repo: Any) -> None:
    """The manifest lists every file but card and .gitattributes, rightly."""
    files = repo.head.files
    held = json.loads(files["rela_zoo.json"].data)
    assert held["format"] == 1
    assert set(held["files"]) == set(files) - {"README.md", ".gitattributes", "rela_zoo.json"}
    for path, record in held["files"].items():
        assert record == {"sha256": hashlib.sha256(files[path].data).hexdigest(), "bytes": len(files[path].data)}


def test_everything_arrives_in_one_commit_a_repository(writer: Any, home: Any, send: Any) -> None:
    done = send()
    assert done.changed
    assert done.tag == "v1"
    assert done.name == f"hf://org/home-made@{done.commit}"
    assert len(model(writer).commits) == len(data(writer).commits) == 2, "the Hub's own first one, and one of ours"
    assert model(writer).tags == {"v1": done.commit}
    assert set(model(writer).head.files) == {
        ".gitattributes", "README.md", "example.py", "figure.png", "model.safetensors", "prior.yaml",
        "rela_zoo.json", "transports/zoo.safetensors",
    }  # fmt: skip
    assert set(data(writer).head.files) == {
        ".gitattributes", "README.md", "rela_zoo.json", "zoo/ids.jsonl", "zoo/index.json",
        "zoo/rows-00000-of-00001.parquet", "zoo/shard-00000.safetensors",
    }  # fmt: skip
    check_manifest(model(writer))
    check_manifest(data(writer))
    files = model(writer).head.files
    assert files["model.safetensors"].data == home.weights.read_bytes()
    assert files["figure.png"].data.startswith(b"\x89PNG")
    raw = yaml.safe_load(files["prior.yaml"].data)
    assert raw["artefacts"]["zoo"]["embeddings"] == {
        "repo": "org/home-made-embeddings",
        "revision": data(writer).head.oid,
        "path": "zoo",
        "sha256": hashlib.sha256((home.embeddings / "index.json").read_bytes()).hexdigest(),
        "rows": 20,
        "bytes": sum((home.embeddings / name).stat().st_size for name in ("ids.jsonl", "shard-00000.safetensors")),
    }
    assert raw["artefacts"]["zoo"]["transport"]["path"] == "transports/zoo.safetensors"
    # Written before the model repository that names it, so that no version can name what is not there.
    order = [path for method, path in writer.requests if method == "POST" and "/commit/" in path]
    assert ["datasets" in path for path in order] == [True, False]


def test_others_read_the_entry_and_load_the_same_network(writer: Any, home: Any, send: Any, tmp_path: Path) -> None:
    import torch

    done = send()
    path = Path(HfApi().hf_hub_download("org/home-made", "prior.yaml", revision=done.commit))
    spec = read_entry(path, hub=("org/home-made", done.commit))
    assert spec.pinned
    transport = spec.artefacts["zoo"].transport
    assert transport is not None
    assert (transport.repo, transport.revision) == ("org/home-made", done.commit)
    x = torch.randn(2, 3, 32, 32)
    with pytest.warns(UserWarning, match="no known hash"):
        mine = load_prior(home.entry)
    assert torch.equal(load_prior(spec, strict=True)(x), mine(x))


def test_a_second_run_does_nothing(writer: Any, send: Any) -> None:
    first = send()
    posts = len(writer.calls(method="POST"))
    again = send()
    assert not again.changed
    assert (again.commit, again.tag, again.dataset_commit) == (first.commit, "v1", first.dataset_commit)
    assert len(writer.calls(method="POST")) == posts
    assert not writer.calls("/commit/")[2:]


def test_a_changed_card_changes_nothing_else(writer: Any, send: Any) -> None:
    first = send()
    second = send(notes="## More\n\nWritten later.\n")
    assert second.changed
    assert [one.path for one in second.plan.model.send] == ["README.md"]
    assert second.tag == "v1", "the files of the version are the same"
    assert second.dataset_commit == first.dataset_commit
    assert b"Written later." in model(writer).head.files["README.md"].data
    assert not send(notes="## More\n\nWritten later.\n").changed
    assert model(writer).tags == {"v1": first.commit}


def test_a_card_that_a_person_edited_is_left_alone(writer: Any, send: Any) -> None:
    send()
    card = model(writer).head.files["README.md"].data.replace(b"# home-made", b"# My home-made")
    writer.store.add("org/home-made", {"README.md": card})
    done = send(notes="new notes")
    assert done.plan.model.card_kept
    assert not done.changed
    assert model(writer).head.files["README.md"].data == card
    assert send(notes="new notes", replace_card=True).changed
    assert b"new notes" in model(writer).head.files["README.md"].data


def test_a_changed_prior_is_a_new_version(writer: Any, home: Any, send: Any) -> None:
    first = send()
    home.change_entry(training_data="other noise")
    second = send()
    assert (second.tag, second.changed) == ("v2", True)
    assert second.dataset_commit == first.dataset_commit
    assert not [one for one in second.plan.model.send if one.path == "model.safetensors"], "not sent twice"
    assert model(writer).tags == {"v1": first.commit, "v2": second.commit}


def test_another_data_set_is_added_and_the_first_stays(writer: Any, home: Any, send: Any, tmp_path: Path) -> None:
    first = send()
    Image.new("RGB", (40, 30), "red").save(home.images / "ant" / "one_more.png")
    with pytest.warns(UserWarning, match="no known hash"):
        more = embed(load_prior(home.entry), home.images, tmp_path / "more", progress=False)
    second = send(embeddings={"more": more.path}, transports={})
    raw = yaml.safe_load(model(writer).head.files["prior.yaml"].data)
    assert set(raw["artefacts"]) == {"more", "zoo"}
    assert raw["artefacts"]["zoo"]["embeddings"]["revision"] == first.dataset_commit
    assert raw["artefacts"]["more"]["embeddings"]["revision"] == second.dataset_commit
    assert "transports/zoo.safetensors" in model(writer).head.files
    assert {path.split("/")[0] for path in data(writer).head.files} >= {"more", "zoo"}
    assert b"| `zoo/` | 20 |" in data(writer).head.files["README.md"].data
    check_manifest(model(writer))
    check_manifest(data(writer))
    # The same without the first.
    third = send(embeddings={"more": more.path}, transports={}, replace=True)
    assert third.changed
    assert set(yaml.safe_load(model(writer).head.files["prior.yaml"].data)["artefacts"]) == {"more"}
    assert "zoo/index.json" not in data(writer).head.files
    check_manifest(data(writer))


def test_a_dry_run_sends_nothing_and_needs_no_token(hub: Any, home: Any) -> None:
    done = runner.invoke(
        app, ["publish", "--repo", "org/home-made", "--entry", str(home.entry), "--embeddings",
              f"zoo={home.embeddings}", "--transport", f"zoo={home.transport}", "--dry-run"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for fact in (
        "new model repository org/home-made", "new dataset repository org/home-made-embeddings", "in all",
        "zoo/shard-00000.safetensors", "model.safetensors", "no image", "nothing was sent",
    ):  # fmt: skip
        assert fact in done.output
    size = f"{home.weights.stat().st_size / 1000:.1f} kB"
    assert any("model.safetensors" in line and size in line for line in done.output.splitlines())
    assert not hub.store.repos
    assert not hub.calls(method="POST")


def test_nothing_is_sent_unasked(writer: Any, home: Any) -> None:
    done = runner.invoke(app, ["publish", "--repo", "org/a", "--entry", str(home.entry)])
    assert isinstance(done.exception, HubError)
    assert not writer.store.repos
    done = runner.invoke(app, ["publish", "--repo", "org/a", "--entry", str(home.entry), "--yes", "--json"])
    facts = json.loads(done.stdout)
    assert facts["name"] == f"hf://org/a@{model(writer, 'org/a').head.oid}"
    assert "hf_writer" not in done.output


def test_a_pull_request_leaves_main_alone(writer: Any, send: Any, home: Any) -> None:
    with pytest.raises(HubError, match=r"no (model|dataset) repository"):
        send(pr=True)
    first = send()
    home.change_entry(training_data="better noise")
    done = send(pr=True)
    assert done.pulls == [f"{writer.url}/org/home-made/discussions/1"]
    assert done.tag is None
    assert model(writer).head.oid == first.commit
    proposed = model(writer).resolve("refs/pr/1")
    assert proposed.oid == done.commit
    assert b"better noise" in proposed.files["prior.yaml"].data
    again = send(pr=True)
    assert again.pulls == []
    assert again.commit == done.commit
    assert len(model(writer).pulls) == 1


def test_anybody_may_propose(writer: Any, send: Any, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = send()
    monkeypatch.setenv("HF_TOKEN", "hf_outsider")
    home.change_entry(training_data="better noise")
    with pytest.raises(HubError, match="can't write to org"):
        send(embeddings={}, transports={})
    done = send(embeddings={}, transports={}, pr=True)
    proposed = model(writer).resolve("refs/pr/1")
    assert (proposed.oid, model(writer).head.oid) == (done.commit, first.commit)
    raw = yaml.safe_load(proposed.files["prior.yaml"].data)
    assert raw["training_data"] == "better noise"
    assert raw["artefacts"]["zoo"]["embeddings"]["revision"] == first.dataset_commit, "what is there stays"


def test_a_tag_is_never_moved(writer: Any, home: Any, send: Any) -> None:
    first = send(tag="camera-ready")
    assert model(writer).tags == {"camera-ready": first.commit}
    assert send(tag="camera-ready").commit == first.commit
    home.change_entry(training_data="other noise")
    posts = len(writer.calls(method="POST"))
    with pytest.raises(HubError, match="tags are not moved"):
        send(tag="camera-ready")
    assert len(writer.calls(method="POST")) == posts, "said before anything is sent"
    assert send().tag == "v1"


def test_private_stays_private(writer: Any, send: Any) -> None:
    send(embeddings={}, transports={}, private=True)
    assert model(writer).private
    send()
    assert data(writer).private, "embeddings of a private prior are not made public in passing"
    writer.store.repos["model", "org/home-made"].private = False
    with pytest.raises(HubError, match="org/home-made is public"):
        send(private=True)


def test_a_repository_of_another_prior_is_not_overwritten(writer: Any, home: Any, send: Any) -> None:
    send(embeddings={}, transports={})
    with pytest.raises(HubError, match="holds another prior"):
        send(embeddings={}, transports={}, details=Details(id="second"))


def test_prepare_then_embed_then_publish(writer: Any, home: Any, tmp_path: Path) -> None:
    entry = prepare(tmp_path / "local", entry="cifar10-resnet20", details=Details(id="renamed", title="Renamed one"))
    assert entry == tmp_path / "local" / "renamed.yaml"
    table = embed(load_prior(entry, strict=True), home.images, tmp_path / "e", progress=False)
    done = publish("org/renamed", entry=entry, embeddings=[f"zoo={table.path}"])
    assert done.dataset_repo == "org/renamed-embeddings"
    check_manifest(model(writer, "org/renamed"))


def test_messages_leave_a_result_alone(writer: Any, home: Any) -> None:
    """With --json they go to stderr; without, they are what there is to read."""
    command = [sys.executable, "-m", "rela_zoo", "publish", "--repo", "org/home-made", "--yes"]
    command += ["--entry", str(home.entry)]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], capture_output=True, text=True, check=True)

    first = run("--json")
    assert json.loads(first.stdout)["tag"] == "v1"
    assert "org/home-made: tagged v1" in first.stderr
    again = run()
    assert "org/home-made: nothing changed" in again.stdout
    assert "nothing changed" not in again.stderr
