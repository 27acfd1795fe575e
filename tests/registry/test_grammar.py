"""Names by timm's grammar, against the tests' own Hub: the commit is looked up once, and only safetensors are read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save
from timm.data import create_transform, resolve_data_config

from rela_zoo.errors import RegistryError, RelaZooError, UnknownPriorError, WeightsError
from rela_zoo.prior import load_prior, prior_identity, readiness
from rela_zoo.registry import at_revision, moves, prior_spec

ROOT = Path(__file__).parents[2]
NAME = "test_vit.r160_in1k"


def network(architecture: str = "test_vit", seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(architecture, pretrained=False, **kwargs).eval()


def weights(model: Any) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


@pytest.fixture
def published(hub: Any) -> Any:
    """timm's own repository of a small ViT, with random weights."""
    card = b"---\nlicense: mit\n---\n"
    files = {"model.safetensors": weights(network(num_classes=1000)), "README.md": card, "pytorch_model.bin": b"PK"}
    hub.first = hub.store.add(f"timm/{NAME}", files)
    return hub


def picture(height: int = 200, width: int = 300) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def timms_features(model: Any, image: Image.Image) -> torch.Tensor:
    """What plain timm gives for an image: its own transform, its own pooling, no classifier."""
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=model.pretrained_cfg))
    model.reset_classifier(0)
    with torch.no_grad():
        return model(transform(image)[None])


def test_a_name_of_timm_gives_what_timm_gives(published: Any, said: Any) -> None:
    spec = prior_spec(f"timm:{NAME}")
    assert (spec.id, spec.repo, spec.revision) == (f"timm:{NAME}", f"timm/{NAME}", published.first)
    assert (spec.file, spec.pin, spec.pinned) == ("model.safetensors", "confirmed", True)
    assert f"today it is timm:{NAME}@{published.first}" in str(said)
    assert readiness(spec) == "needs download"
    cfg = timm.get_pretrained_cfg(NAME)
    assert spec.licence == cfg.license == "apache-2.0"
    assert spec.preprocessing is not None
    assert spec.preprocessing.input_size == cfg.input_size[-1] == 160
    model = network(num_classes=1000)
    assert spec.dim == model.num_features == 64
    assert spec.dense is not None
    assert (spec.dense.grid, spec.dense.dim) == (10, 64)
    prior = load_prior(f"timm:{NAME}@{published.first}", strict=True)
    assert prior.identity() == prior_identity(spec)
    image = picture()
    torch.testing.assert_close(prior(prior.transform(image)[None]), timms_features(model, image), atol=1e-4, rtol=1e-4)
    assert not published.calls("pytorch_model.bin")


def test_the_name_without_a_tag_is_timms_default(published: Any) -> None:
    assert prior_spec("timm:test_vit").id == f"timm:{NAME}"
    sized = prior_spec(f"timm:{NAME}@{published.first}@80")
    assert sized.preprocessing is not None
    assert (sized.id, sized.preprocessing.input_size) == (f"timm:{NAME}@80", 80)


def test_a_full_commit_is_said_by_nobody_and_stays(published: Any, said: Any) -> None:
    published.store.add(f"timm/{NAME}", {"model.safetensors": weights(network(num_classes=1000, seed=1))})
    old, new = prior_spec(f"timm:{NAME}@{published.first}"), prior_spec(f"timm:{NAME}@main")
    assert (old.revision, new.revision) == (published.first, published.store.repos["model", f"timm/{NAME}"].head.oid)
    assert old.sha256 != new.sha256
    assert str(said).count("not pinned") == 1
    first, second = load_prior(old), load_prior(new)
    assert first.identity()["weights_sha256"] == old.sha256
    x = torch.randn(1, 3, 160, 160)
    assert not torch.allclose(first(x), second(x))


def test_strict_refuses_a_name_without_a_commit(published: Any) -> None:
    with pytest.raises(WeightsError, match=rf"says no commit(.|\n)*{NAME}@{published.first}"):
        load_prior(f"timm:{NAME}", strict=True)


def test_the_commit_is_asked_for_once_and_remembered_offline(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    prior = load_prior(f"timm:{NAME}")
    before = len(published.requests)
    assert len(published.calls(rf"/api/models/timm/{NAME}$")) == 1
    prior_spec(f"timm:{NAME}")
    assert len(published.calls(rf"/api/models/timm/{NAME}$")) == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("rela_zoo.remote._commits._asked", {})
    before = len(published.requests)
    again = load_prior(f"timm:{NAME}")
    assert again.identity() == prior.identity()
    assert len(published.requests) == before
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    published.stop()
    assert load_prior(f"timm:{NAME}").identity() == prior.identity()


def test_offline_and_never_seen(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownPriorError, match="without a network"):
        prior_spec(f"timm:{NAME}")
    with pytest.raises(RelaZooError):
        load_prior(f"timm:{NAME}@{published.first}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vitt.r160_in1k", r"no pretrained network(.|\n)*timm:test_vit"),
        ("timm:test_vit.nosuch", "no pretrained network"),
        ("timm:org/name", "names no prior"),
        ("timm:", "names no prior"),
        ("hf-hub:name", "names no prior"),
        ("hf-hub:../x/y", "names no prior"),
        ("hf-hub:nobody/nothing", "not in reach"),
        (f"timm:{NAME}@nosuch", "not in reach"),
        (f"timm:{NAME}@{'0' * 40}", "not in reach"),
    ],
)
def test_names_of_nothing(published: Any, name: str, message: str) -> None:
    with pytest.raises(UnknownPriorError, match=message):
        prior_spec(name)


def test_pickles_only_are_refused(hub: Any) -> None:
    hub.store.add("timm/test_resnet.r160_in1k", {"pytorch_model.bin": b"PK", "config.json": b"{}"})
    with pytest.raises(RegistryError, match=r"no weights that are read here(.|\n)*pytorch_model\.bin"):
        prior_spec("timm:test_resnet.r160_in1k")
    with pytest.raises(RegistryError, match="only as a pickle"):
        prior_spec("timm:vit_huge_patch14_gap_224.in1k_ijepa")
    assert not hub.calls("/resolve/")


def test_a_preparation_that_is_not_done_here_is_refused(hub: Any) -> None:
    hub.store.add("timm/vit_base_patch16_sapiens2.fb", {"model.safetensors": b"x"})
    with pytest.raises(RegistryError, match="can't be prepared here"):
        prior_spec("timm:vit_base_patch16_sapiens2.fb")


class TestRepositories:
    def add(self, hub: Any, model: Any, repo: str = "org/own", more: Any = None, **files: bytes) -> str:
        """As timm's `push_to_hf_hub` writes it."""
        cfg = {key: value for key, value in model.pretrained_cfg.items() if key not in ("url", "hf_hub_id")}
        config = {"architecture": cfg.pop("architecture"), "num_classes": model.num_classes, "pretrained_cfg": cfg}
        content = {"model.safetensors": weights(model), "config.json": json.dumps({**config, **(more or {})}).encode()}
        return hub.store.add(repo, {**content, **files})

    def test_timms_own_form(self, hub: Any, said: Any) -> None:
        model = network(
            "test_convnext", num_classes=7, pretrained_cfg_overlay={"crop_pct": 0.8, "mean": (0.1, 0.2, 0.3)}
        )
        commit = self.add(hub, model, **{"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"})
        prior = load_prior(f"hf-hub:org/own@{commit}", strict=True)
        assert (prior.spec.id, prior.spec.source, prior.dim) == ("hf-hub:org/own", "hub", model.num_features)
        assert prior.spec.licence == model.pretrained_cfg.get("license", "cc-by-nc-4.0")
        assert len(said) == 0
        image = picture(400, 300)
        x = prior.transform(image)[None]
        torch.testing.assert_close(prior(x), timms_features(model, image), atol=1e-4, rtol=1e-4)
        assert prior_spec("hf_hub:org/own").revision == commit

    def test_squashed_images_and_arguments(self, hub: Any) -> None:
        model = network(
            "test_vit",
            num_classes=0,
            img_size=96,
            pretrained_cfg_overlay={
                "crop_mode": "squash",
                "input_size": (3, 96, 96),
                "crop_pct": 1.0,
                "license": "dinov3-license",
                "paper_ids": "arXiv:2412.07679v2",
            },
        )
        commit = self.add(hub, model, more={"model_args": {"img_size": [96, 96], "num_classes": 0, "drop_rate": None}})
        prior = load_prior(f"hf-hub:org/own@{commit}")
        spec = prior.spec
        assert spec.preprocessing is not None
        assert (spec.preprocessing.input_size, spec.preprocessing.crop_mode) == (96, "squash")
        assert (spec.licence, spec.arxiv, spec.dense.grid) == ("other", ("2412.07679",), 6)  # type: ignore[union-attr]
        assert "dinov3-license" in spec.notes[0]
        image = picture(100, 400)
        expected = timms_features(model, image)
        torch.testing.assert_close(prior(prior.transform(image)[None]), expected, atol=1e-4, rtol=1e-4)

    def test_an_older_flat_form(self, hub: Any) -> None:
        model = network("test_resnet", num_classes=3)
        flat = {"architecture": "test_resnet", "input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
        hub.store.add("org/old", {"model.safetensors": weights(model), "config.json": json.dumps(flat).encode()})
        spec = prior_spec("hf-hub:org/old")
        assert spec.preprocessing is not None
        assert (spec.preprocessing.input_size, spec.preprocessing.resize, spec.licence) == (64, 73, "unstated")
        load_prior(spec)

    def test_open_clip_with_a_tower_of_timm(self, hub: Any) -> None:
        model = network("test_vit", num_classes=0)
        whole = {f"visual.trunk.{key}": value for key, value in model.state_dict().items()}
        whole |= {"visual.head.proj.weight": torch.ones(8, 64), "text.weight": torch.ones(3)}
        config = {
            "model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit"}},
            "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
        }
        files = {"open_clip_model.safetensors": save(whole), "open_clip_config.json": json.dumps(config).encode()}
        hub.store.add("org/clip", {**files, "config.json": b'{"model_type": "clip"}'})
        prior = load_prior("hf-hub:org/clip")
        assert prior.spec.preprocessing is not None
        assert prior.spec.preprocessing.crop_mode == "squash"
        x = torch.randn(1, 3, 160, 160)
        with torch.no_grad():
            torch.testing.assert_close(prior(x), model(x))
        files["open_clip_config.json"] = json.dumps({"model_cfg": {"vision_cfg": {"layers": 12}}}).encode()
        hub.store.add("org/clip", files)
        with pytest.raises(RegistryError, match="no repository of timm's"):
            prior_spec(f"hf-hub:org/clip@{hub.store.repos['model', 'org/clip'].head.oid}")

    @pytest.mark.parametrize(
        "config",
        [
            b"not json", b"[]", b'{"architecture": "test_vit", "pretrained_cfg": 3}',
            b'{"architecture": ["x"], "pretrained_cfg": {}}',
            b'{"architecture": "no_such_thing", "pretrained_cfg": {}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {"mean": "x"}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {"input_size": [3, 1e400, 5]}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {"checkpoint_path": "/etc/passwd"}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {"depth": 100000}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {"nonsense": 1}}',
            b'{"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {"act_layer": {"a": 1}}}',
        ],
    )  # fmt: skip
    def test_malformed_and_hostile_configurations(self, hub: Any, config: bytes) -> None:
        hub.store.add("org/bad", {"model.safetensors": b"x", "config.json": config})
        with pytest.raises(RegistryError):
            prior_spec("hf-hub:org/bad")


def test_which_names_move() -> None:
    commit = "a" * 40
    assert [moves(one) for one in ("timm:x.y", "timm:x.y@main", "hf-hub:a/b@64", f"timm:x.y@{commit}@64")] == [
        True, True, True, False,
    ]  # fmt: skip
    commits = {"org/own": commit, f"timm/{NAME}": commit}
    assert at_revision("hf-hub:org/own@main@64", commits) == f"hf-hub:org/own@{commit}@64"
    assert at_revision(f"timm:{NAME}", commits) == f"timm:{NAME}@{commit}"
    for same in ("timm:nosuch", "hf-hub:org/other", f"hf-hub:org/own@{'b' * 40}", "clip-vit-b16"):
        assert at_revision(same, commits) == same


def test_from_the_command_line(published: Any, make_folder: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "images", {"a": 2, "b": 2})
    name = f"timm:{NAME}@{published.first}"

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "rela_zoo", *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)

    shown = run("show", name, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["dense"] == {"grid": 10, "dim": 64}
    made = run("embed", name, str(tmp_path / "images"), "--out", str(tmp_path / "rows"), "--json", "--workers", "0")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["prior"]["id"] == f"timm:{NAME}"
