"""A network of one's own code: every form of --module, from --prepare to embeddings that others pull."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server.zoo import commit_of
from safetensors.torch import save_file
from typer.testing import CliRunner

from rela_zoo import load_prior, open_embeddings
from rela_zoo.cli import app
from rela_zoo.errors import RegistryError
from rela_zoo.hub import pull

# Initialised at random, each time anew; the size comes from a module beside it.
NET = """
from torch import nn
from {sizes} import WIDTH
def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, WIDTH))
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, WIDTH))
"""
FACTS = ["--id", "mine", "--licence", "mit", "--input-size", "32"]
runner = CliRunner()


def run(*command: object) -> Any:
    return runner.invoke(app, [str(one) for one in command], catch_exceptions=False)


def _code(folder: Path, tag: str) -> None:
    """A module, a package and a namespace package, all with names that no other test has."""
    (folder / f"sizes_{tag}.py").write_text("WIDTH = 6\n")
    (folder / f"net_{tag}.py").write_text(NET.format(sizes=f"sizes_{tag}"))
    for name, files in ((f"pkg_{tag}", ("__init__.py",)), (f"bare_{tag}", ())):
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("")
        (folder / name / "models.py").write_text(NET.format(sizes=f"sizes_{tag}"))


FORMS = {
    "module": "net_{}:make",
    "class": "net_{}:Net",
    "package": "pkg_{}.models:make",
    "namespace": "bare_{}.models:Net",
    "file": "../code/net_{}.py:make",
    "path": "{code}/net_{}.py:Net",
    "installed": "net_{}:make",
}


@pytest.mark.parametrize("form", FORMS)
def test_prepared_embedded_elsewhere_published_and_pulled(
    writer: Any, home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    code, here, away = tmp_path / "code", tmp_path / "here", tmp_path / "away"
    for folder in (code, here, away):
        folder.mkdir()
    _code(code, form)
    if form == "installed":
        monkeypatch.syspath_prepend(str(code))
    monkeypatch.chdir(here if form in ("file", "path", "installed") else code)
    before = list(sys.path)
    module = FORMS[form].format(form, code=code)
    assert run("publish", "--module", module, *FACTS, "--prepare", tmp_path / "local").exit_code == 0
    monkeypatch.chdir(away)
    entry = tmp_path / "local" / "mine.yaml"
    assert run("embed", entry, home.images, "--out", tmp_path / "rows").exit_code == 0
    options = ["--repo", "org/mine", "--entry", entry, "--embeddings", f"zoo={tmp_path / 'rows'}", "--yes"]
    assert run("publish", *options).exit_code == 0
    there = writer.store.repos["model", "org/mine"].head.files
    assert not any(path.startswith(("net_", "pkg_", "sizes_")) for path in there), "the code stays with its author"
    assert str(tmp_path).encode() not in there["prior.yaml"].data + there["README.md"].data
    name = f"hf://org/mine@{commit_of('org/mine', 'model')}"
    assert open_embeddings(pull(name, "zoo").embeddings).shape == (20, 6)
    assert sys.path == before


def test_weights_of_a_file_go_into_the_network_also_when_it_embeds(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _code(tmp_path, "weights")
    monkeypatch.chdir(tmp_path)
    state = {"2.weight": torch.full((6, 12), 0.5), "2.bias": torch.arange(6.0)}
    save_file(state, tmp_path / "w.safetensors")
    command = ["publish", "--module", "net_weights:make", "--weights", "w.safetensors", *FACTS, "--prepare", "local"]
    assert run(*command).exit_code == 0
    prior = load_prior(tmp_path / "local" / "mine.yaml")
    images = torch.ones(1, 3, 32, 32)
    assert torch.equal(prior(images)[0], state["2.weight"].sum(1) + state["2.bias"])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("net_bad", "names no function or class.*package.module:callable"),
        ("net_bad:", "names no function or class"),
        (":make", "names no function or class"),
        ("code/net_bad.py:make", "no such file"),
        ("nobody_has_this:make", "not importable"),
        ("net_bad:nothing", "names no callable"),
        ("net_bad:WIDTH", "names no callable"),
    ],
)
def test_what_names_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: str) -> None:
    _code(tmp_path, "bad")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=rf"(?s){words}"):
        run("publish", "--module", module, *FACTS, "--prepare", "local")
    assert not (tmp_path / "local").exists()
