"""`rela-zoo index`: made of a folder, edited one entry at a time, sent as one commit; one bad entry hides nothing."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
import yaml
from hub_server.zoo import commit_of
from huggingface_hub import HfApi
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.embeddings import write_rows
from rela_zoo.errors import HubError, RegistryError
from rela_zoo.prior import identity_digest, prior_identity
from rela_zoo.registry import index_embeddings, index_names, prior_spec

INDEX = "rela-zoo/registry"


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch):
    monkeypatch.setattr("rela_zoo.registry._hub_index._ASK_EVERY", -1.0)


@pytest.fixture
def writer(zoo, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    return zoo


def run(*command, code=0):
    done = CliRunner().invoke(app, ["index", *map(str, command)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def head(zoo):
    return json.loads(zoo.hub.store.repos["dataset", INDEX].head.files["index.json"].data)


def pointer(zoo):
    repo, commit = zoo.name.removeprefix("hf://").split("@")
    return {"repo": repo, "revision": commit}


@pytest.fixture
def listing(zoo, tmp_path):
    """Embeddings of a packaged prior on the Hub, as `publish` lists them."""
    identity = prior_identity(prior_spec("cifar10-resnet20"))
    rows = torch.randn(12, 64, generator=torch.Generator().manual_seed(0))
    made = write_rows(tmp_path / "rows", [rows], [str(i) for i in range(12)], prior=identity, preprocessing="upstream")
    files = {f"toy/{name}": (made.path / name).read_bytes() for name in made.files}
    zoo.hub.store.add("org/rows", files, kind="dataset")
    digest = hashlib.sha256(files["toy/index.json"]).hexdigest()
    place = {"repo": "org/rows", "revision": commit_of("org/rows", "dataset"), "path": "toy", "sha256": digest}
    return {identity_digest(identity): {"toy": {"embeddings": place}}}


def test_an_entry_is_added_changed_and_removed_on_the_hub_each_in_one_commit(writer):
    assert INDEX in run("add", writer.name, "--repo", INDEX, "--yes").output
    assert head(writer)["priors"] == {"home-made": pointer(writer)}
    assert index_names() == {"home-made": tuple(pointer(writer).values())}
    assert prior_spec("home-made").id == "home-made"
    assert "nothing changed" in run("add", writer.name, "--repo", INDEX, "--yes").output
    commits = writer.hub.calls(f"/datasets/{INDEX}/commit/")
    assert len(commits) == 1
    run("remove", "home-made", "--repo", INDEX, "--yes")
    assert head(writer)["priors"] == {}
    assert len(writer.hub.calls(f"/datasets/{INDEX}/commit/")) == 2
    with pytest.raises(RegistryError, match="has no 'home-made'"):
        run("remove", "home-made", "--repo", INDEX, "--yes")


def test_a_pull_request_leaves_the_index_as_it_is(writer, monkeypatch):
    run("add", writer.name, "--repo", INDEX, "--yes")
    before = head(writer)
    monkeypatch.setenv("HF_TOKEN", "hf_outsider")
    assert "pull request: http" in run("remove", "home-made", "--repo", INDEX, "--pr", "--yes").output
    assert head(writer) == before
    ref = HfApi().list_repo_refs(INDEX, repo_type="dataset", include_pull_requests=True).pull_requests[0]
    proposed = writer.hub.store.repos["dataset", INDEX]
    assert ref.target_commit != commit_of(INDEX, "dataset")
    assert proposed is not None
    with pytest.raises(HubError, match="can't write to rela-zoo"):
        run("remove", "home-made", "--repo", INDEX, "--yes")


def test_an_entry_is_proposed_by_somebody_who_may_not_write(writer, monkeypatch):
    writer.hub.store.add(INDEX, {"index.json": b'{"format": 1, "priors": {}, "embeddings": {}}'}, kind="dataset")
    monkeypatch.setenv("HF_TOKEN", "hf_outsider")
    said = run("add", writer.name, "--repo", INDEX, "--pr", "--yes").output
    assert "pull request: http" in said
    assert head(writer)["priors"] == {}
    index = writer.hub.store.repos["dataset", INDEX]
    (proposed,) = index.pulls.values()
    assert json.loads(index.commits[proposed].files["index.json"].data)["priors"] == {"home-made": pointer(writer)}


def test_embeddings_are_added_by_identity_and_never_under_a_wrong_one(writer, listing, tmp_path):
    (tmp_path / "listing.json").write_text(json.dumps({"repo": "org/rows", "listing": listing}))
    run("add", "--listing", tmp_path / "listing.json", "--repo", INDEX, "--yes")
    identity = next(iter(listing))
    assert set(index_embeddings(identity)) == {"toy"}
    wrong = {"1" * 64: listing[identity]}
    (tmp_path / "listing.json").write_text(json.dumps(wrong))
    with pytest.raises(RegistryError, match=rf"(?s)by another prior.*{'1' * 64}.*{identity}"):
        run("add", "--listing", tmp_path / "listing.json", "--repo", INDEX, "--yes")
    del listing[identity]["toy"]["embeddings"]["sha256"]
    (tmp_path / "listing.json").write_text(json.dumps(listing))
    with pytest.raises(RegistryError, match="a sha256 of everything"):
        run("add", "--listing", tmp_path / "listing.json", "--repo", INDEX, "--yes")
    run("remove", identity, "--dataset", "toy", "--repo", INDEX, "--yes")
    assert head(writer)["embeddings"] == {}


def test_one_bad_entry_stays_hides_nothing_and_can_be_removed(writer, listing):
    bad = {"zz": {"repo": "x"}, "Bad Name": 3}
    document = {"format": 1, "priors": bad, "embeddings": {"short": {}, **listing}}
    writer.hub.store.add(INDEX, {"index.json": json.dumps(document).encode()}, kind="dataset")
    done = run("add", writer.name, "--repo", INDEX, "--yes")
    assert "priors.zz" in done.output
    assert head(writer)["priors"] == {**bad, "home-made": pointer(writer)}
    assert head(writer)["embeddings"] == document["embeddings"]
    assert set(index_names()) == {"home-made"}
    assert set(index_embeddings(next(iter(listing)))) == {"toy"}
    found = run("check", "--repo", INDEX, code=1).output
    assert "home-made  org/home-made@" in found
    assert sum(line.startswith("problem: ") for line in found.splitlines()) == 3
    for name in ("zz", "Bad Name", "short"):
        run("remove", name, "--repo", INDEX, "--yes")
    assert run("check", "--repo", INDEX).exit_code == 0


def test_an_index_of_the_older_layout_loses_nothing_when_it_becomes_one_file(writer):
    other = {"repo": "org/other", "revision": "2" * 40}
    files = {
        f"priors/{name}.yaml": yaml.safe_dump(one).encode() for name, one in {"other": other, "zz": {"x": 1}}.items()
    }
    writer.hub.store.add(INDEX, files, kind="dataset")
    assert set(index_names()) == {"other"}
    run("add", writer.name, "--repo", INDEX, "--yes")
    assert head(writer)["priors"] == {"home-made": pointer(writer), "other": other}
    assert set(index_names()) == {"home-made", "other"}


def test_built_from_a_folder(writer, listing, tmp_path):
    folder, file = tmp_path / "entries", tmp_path / "index.json"
    (folder / "priors").mkdir(parents=True)
    (folder / "home-made.yaml").write_text(yaml.safe_dump(pointer(writer)))
    (folder / "priors" / "other.yaml").write_text(yaml.safe_dump({"repo": "org/other", "revision": "2" * 40}))
    (folder / "rows.json").write_text(json.dumps(listing))
    assert "2 priors, 1 data sets" in run("build", folder, "--file", file).output
    for name, text in {
        "broken.yaml": "{", "moving.yaml": "repo: a/b\nrevision: main\n", "clip-vit-b16.yaml": "repo: a/b\n",
        "more.json": "[]", "again.json": json.dumps(listing),
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    built = file.read_bytes()
    done = run("build", folder, "--file", file, code=1)
    assert done.output.count("left out: ") == 5
    assert file.read_bytes() == built, "what is good is there all the same"
    run("publish", file, "--repo", INDEX, "--yes")
    assert head(writer) == json.loads(built)
    assert set(index_names()) == {"home-made", "other"}
    run("remove", "other", "--file", file)
    assert set(json.loads(file.read_bytes())["priors"]) == {"home-made"}
    (tmp_path / "empty").mkdir()
    for command in (["build", tmp_path / "nowhere"], ["build", tmp_path / "empty"], ["add", "home-made"]):
        with pytest.raises(RegistryError):
            run(*command, "--file", tmp_path / "none.json")


def test_somebody_was_faster(writer):
    run("add", writer.name, "--repo", INDEX, "--yes")
    writer.hub.fail(rf"/datasets/{INDEX}/commit/", status=412)
    with pytest.raises(HubError, match="changed meanwhile"):
        run("remove", "home-made", "--repo", INDEX, "--yes")


def test_nothing_is_sent_without_being_asked(writer):
    with pytest.raises(RegistryError, match="stopped before anything was sent"):
        run("add", writer.name, "--repo", INDEX)
    shown = json.loads(run("add", writer.name, "--repo", INDEX, "--dry-run").stdout)
    assert set(shown["priors"]) == {"home-made"}
    assert ("dataset", INDEX) not in writer.hub.store.repos
