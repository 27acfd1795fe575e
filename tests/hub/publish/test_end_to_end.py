"""Published by one, used by another who has nothing but a name: the whole way, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi
from typer.testing import CliRunner

from rela_zoo import load_prior, pull
from rela_zoo.cli import app
from rela_zoo.errors import HubError, RelaZooError
from rela_zoo.prior import find_weights
from rela_zoo.registry import prior_spec

ROOT = Path(__file__).parents[3]
runner = CliRunner()


def pretrain(home: Any, cache: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    overrides = [
        "rela.prior=home-made", "rela.data_ratio=0.8", "rela.handover=1.0", "max_epochs=1", "optimizer.batch_size=8",
        f"data.train_path={home.images}", f"checkpoint.dir={cache / 'runs'}", "auto_resume.enabled=false",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HOME": str(cache / "hf"), "RELA_ZOO_HOME": str(cache / "rela_zoo")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", "rela_zoo", "pretrain", "--config-name", "demo", *extra, *overrides],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def put_into_index(hub: Any, commit: str) -> None:
    pointer = yaml.safe_dump({"repo": "org/home-made", "revision": commit}).encode()
    hub.store.add("rela-zoo/registry", {"priors/home-made.yaml": pointer}, kind="dataset")


@pytest.mark.slow
def test_a_stranger_trains_by_name_and_goes_on_without_the_hub(
    writer: Any, home: Any, send: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_index(writer, send().commit)
    monkeypatch.delenv("HF_TOKEN")
    writer.requests.clear()
    first = pretrain(home, tmp_path / "stranger")
    assert first.returncode == 0, first.stderr
    assert "published in org/home-made-embeddings" in first.stdout + first.stderr
    asked = [path for _, path in writer.requests]
    assert any("shard-00000" in path for path in asked)
    assert not any("model.safetensors" in path for path in asked), "the prior itself is not needed"
    writer.stop()
    again = pretrain(home, tmp_path / "stranger", "--locked")
    assert again.returncode == 0, again.stderr


def test_commands_of_a_stranger(writer: Any, home: Any, send: Any, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    done = send()
    put_into_index(writer, done.commit)
    monkeypatch.delenv("HF_TOKEN")
    found = json.loads(runner.invoke(app, ["search", "--json"], catch_exceptions=False).stdout)
    assert [(one["repo"], one["name"], one["licence"]) for one in found] == [("org/home-made", "home-made", "mit")]
    assert (found[0]["title"], found[0]["dim"], found[0]["datasets"]["zoo"]["rows"]) == (
        "A ResNet-8 of one's own",
        64,
        20,
    )
    for words, there in (("ResNet-8", 1), ("zoo own", 1), ("nothing-of-the-kind", 0)):
        listed = json.loads(runner.invoke(app, ["search", words, "--json"], catch_exceptions=False).stdout)
        assert len(listed) == there, words
    said_of_it = runner.invoke(app, ["search", "home"], catch_exceptions=False).stdout
    assert "embeddings of zoo: 20 rows" in said_of_it
    command = ["pull", "home-made", "--dataset", "zoo", "--weights", "--json"]
    facts = json.loads(runner.invoke(app, command, catch_exceptions=False).stdout)
    assert Path(facts["weights"]).read_bytes() == home.weights.read_bytes()
    assert {one["kind"] for one in facts["artefacts"]} == {"embeddings", "transport", "weights"}
    fetch = ["fetch", "demo", "rela=home-made", f"data.train_path={home.images}"]
    assert runner.invoke(app, fetch, catch_exceptions=False).exit_code == 0
    assert "published in org/home-made-embeddings" in str(said)


def test_a_repository_a_tag_or_a_page_is_resolved_to_a_commit_that_is_said(
    writer: Any, send: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = send()
    second = send(notes="## More\n")
    assert first.name != second.name
    page = "https://huggingface.co/org/home-made"
    for name, address in (
        ("hf://org/home-made", second.name), (page, second.name), (f"{page}/tree/v1", first.name),
        ("hf://org/home-made@v1", first.name), (first.name, first.name),
    ):  # fmt: skip
        said.clear()
        pulled = pull(name)
        assert pulled.name == address
        assert (f"{name} is {address}" in str(said)) == (name != address)
    for name in ("hf://org/home-made@v9", "hf://org/nothing"):
        with pytest.raises(HubError, match="which commit"):
            pull(name)
    text = runner.invoke(app, ["pull", "hf://org/home-made", "--dataset", "zoo"], catch_exceptions=False).stdout
    assert f"rela.prior={second.name}" in text
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # What it was when it was last asked for; of what was never asked for, nothing is known.
    assert pull("hf://org/home-made").name == second.name
    with pytest.raises(HubError, match="without a network"):
        pull("hf://org/other")
    assert pull(second.name).embeddings is not None


def test_damaged_weights_are_fetched_again_when_the_prior_is_loaded(writer: Any, home: Any, send: Any) -> None:
    spec = prior_spec(send().name)
    path = find_weights(spec).path.resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert load_prior(spec).dim == 64
    assert path.read_bytes() == home.weights.read_bytes()


def test_a_half_published_version_is_no_version(writer: Any, send: Any) -> None:
    """The embeddings are there, the prior's own commit was refused: nobody can name what is missing."""
    writer.fail(r"/api/models/org/home-made/commit", status=403)
    with pytest.raises(HubError):
        send()
    head = HfApi().model_info("org/home-made").sha
    with pytest.raises(RelaZooError):
        pull(f"hf://org/home-made@{head}")
    writer.faults.clear()
    assert pull(prior_spec(send().name)).embeddings is not None
