from __future__ import annotations

import json
import pickle
import struct
from importlib import import_module

import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import save_file

from rela_zoo._io.safetensors_header import MAX_HEADER_BYTES
from rela_zoo.errors import WeightsError
from rela_zoo.networks.cifar_resnet import CifarResNet
from rela_zoo.prior import UnpinnedWeightsWarning, load_prior
from rela_zoo.prior._weights import find_weights, own_weights_path, read_weights, state_digest
from rela_zoo.registry import prior_spec

SHA = "0123456789" * 4
# The HTTP library of the Hub's client, whichever it is in the version installed.
http = import_module(hub_errors.HfHubHTTPError.__bases__[0].__module__.split(".")[0])


class TestReading:
    def test_half_becomes_float_and_integers_stay(self, tmp_path):
        save_file({"a": torch.tensor([0.5]).half(), "n": torch.tensor([3])}, tmp_path / "x.safetensors")
        state = read_weights(tmp_path / "x.safetensors")
        assert (state["a"].dtype, state["n"].dtype) == (torch.float32, torch.int64)

    def test_what_was_read_does_not_follow_the_file(self, tmp_path):
        path = tmp_path / "x.safetensors"
        save_file({"a": torch.ones(1000)}, path)
        state = read_weights(path)
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size - 4000)
            file.write(bytes(4000))
        assert state["a"].eq(1).all()

    def test_only_the_image_tower_of_a_clip(self, tmp_path):
        save_file({"visual.a": torch.ones(1), "text": torch.ones(1)}, tmp_path / "x.safetensors")
        assert set(read_weights(tmp_path / "x.safetensors")) == {"visual.a"}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite(self, tmp_path, value):
        save_file({"a": torch.tensor([1.0, value])}, tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match="not finite"):
            read_weights(tmp_path / "x.safetensors")


class _Bomb:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was loaded')",))


class TestAttacks:
    """Files that claim to be safetensors."""

    def refused(self, tmp_path, data: bytes, message: str) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=message):
            read_weights(path)

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_a_pickle(self, tmp_path, protocol):
        self.refused(tmp_path, pickle.dumps(_Bomb(), protocol=protocol), "is a pickle")

    def test_a_torch_file(self, tmp_path):
        torch.save({"a": torch.ones(1)}, tmp_path / "t.pt")
        self.refused(tmp_path, (tmp_path / "t.pt").read_bytes(), "is a pickle")

    @pytest.mark.parametrize("data", [b"", b"short", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"[]"])
    def test_no_header(self, tmp_path, data):
        self.refused(tmp_path, data, "no safetensors")

    def test_a_header_that_is_no_json(self, tmp_path):
        self.refused(tmp_path, struct.pack("<Q", 3) + b"{a}" + bytes(8), "header")

    def test_a_header_out_of_all_proportion(self, tmp_path):
        header = b"{" + b" " * MAX_HEADER_BYTES + b"}"
        self.refused(tmp_path, struct.pack("<Q", len(header)) + header, "too long")

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [4], "data_offsets": [0, 999]},
            {"dtype": "F32", "shape": [999], "data_offsets": [0, 16]},
            {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]},
        ],
    )
    def test_a_header_that_lies(self, tmp_path, entry):
        header = json.dumps({"a": entry}).encode()
        self.refused(tmp_path, struct.pack("<Q", len(header)) + header + bytes(16), "damaged")

    def test_a_truncated_file(self, tmp_path):
        save_file({"a": torch.ones(100)}, tmp_path / "t.safetensors")
        self.refused(tmp_path, (tmp_path / "t.safetensors").read_bytes()[:-10], "damaged")


class TestOutOfReach:
    """The error says which file of which repository at which commit was wanted, and how to put it there."""

    def test_a_local_prior(self):
        with pytest.raises(WeightsError) as error:
            load_prior("cifar100-resnet18")
        spec = prior_spec("cifar100-resnet18")
        assert spec.origin is not None
        for needed in (own_weights_path(spec), spec.origin.repo, spec.origin.revision, spec.origin.sha256, "pickle"):
            assert str(needed) in str(error.value)

    def test_an_external_one(self):
        with pytest.raises(WeightsError, match="source: callable"):
            load_prior("yolov9")

    @pytest.mark.parametrize(
        "failure",
        [
            hub_errors.LocalEntryNotFoundError("nothing in the cache"),
            hub_errors.OfflineModeIsEnabled("offline"),
            http.ConnectError("refused"),
            http.ReadTimeout("slow"),
            hub_errors.HfHubHTTPError("500", response=http.Response(500, request=http.Request("GET", "http://x"))),
            hub_errors.RepositoryNotFoundError(
                "404", response=http.Response(404, request=http.Request("GET", "http://x"))
            ),
            PermissionError("cache"),
        ],
        ids=lambda failure: type(failure).__name__,
    )
    def test_a_hub_that_fails(self, monkeypatch, failure):
        def fail(*args, **kwargs):
            raise failure

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        spec = prior_spec("clip-vit-b16")
        with pytest.raises(WeightsError) as error:
            load_prior(spec)
        for needed in (
            spec.repo,
            spec.file,
            spec.revision,
            spec.sha256,
            own_weights_path(spec),
            type(failure).__name__,
        ):
            assert str(needed) in str(error.value)
        assert error.value.__cause__ is failure


class TestFinding:
    @pytest.fixture
    def hub_spec(self, make_spec):
        return make_spec(
            source="hub", repo="me/net", revision=SHA, family="cifar-resnet", architecture="resnet8", dim=64
        )

    def test_the_hub_is_asked_for_the_pinned_commit_and_nothing_else(self, hub_spec, tmp_path, monkeypatch):
        save_file(dict(CifarResNet(8).state_dict()), tmp_path / "model.safetensors")
        asked = []

        def download(repo, file, *, revision, repo_type, local_files_only, tqdm_class):
            assert repo_type == "model"
            assert not local_files_only
            asked.append((repo, file, revision))
            return str(tmp_path / "model.safetensors")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        with pytest.warns(UnpinnedWeightsWarning):
            prior = load_prior(hub_spec)
        assert asked == [("me/net", "model.safetensors", SHA)]
        assert prior.identity()["revision"] == SHA

    def test_without_a_commit_the_one_that_came_is_recorded(self, hub_spec, tmp_path, monkeypatch):
        folder = tmp_path / "models--me--net" / "snapshots" / SHA
        folder.mkdir(parents=True)
        save_file(dict(CifarResNet(8).state_dict()), folder / "model.safetensors")
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(folder / "model.safetensors"))
        spec = hub_spec.model_copy(update={"revision": None})
        with pytest.warns(UnpinnedWeightsWarning, match=SHA):
            assert load_prior(spec).identity()["revision"] == SHA

    def test_a_file_put_there_by_hand_needs_no_hub(self, hub_spec, supply):
        path = supply(hub_spec, CifarResNet(8).state_dict())
        assert find_weights(hub_spec).path == path
        with pytest.warns(UnpinnedWeightsWarning):
            assert load_prior(hub_spec).dim == 64


def test_a_file_in_the_cache_of_the_hub_needs_no_network(make_spec, tmp_path, monkeypatch):
    """With the real client: a full commit that is cached is not looked up again."""
    from huggingface_hub.file_download import hf_hub_download

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = make_spec(source="hub", repo="me/net", revision=SHA, family="cifar-resnet", architecture="resnet8", dim=64)
    with pytest.raises(WeightsError, match=f"me/net at commit {SHA}"):
        load_prior(spec)
    folder = tmp_path / "models--me--net" / "snapshots" / SHA
    folder.mkdir(parents=True)
    save_file(dict(CifarResNet(8).state_dict()), folder / "model.safetensors")
    with pytest.warns(UnpinnedWeightsWarning):
        assert load_prior(spec).identity()["revision"] == SHA


def test_the_digest_of_a_state_sees_names_types_shapes_and_values():
    base = {"a": torch.ones(2, 2), "b": torch.tensor(3)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].half(), "b": base["b"]},
        {"a": base["a"].reshape(4), "b": base["b"]},
        {"a": base["a"] * 2, "b": base["b"]},
    ]
    digests = {state_digest(state) for state in (base, *others)}
    assert len(digests) == 5
    assert state_digest(dict(reversed(base.items()))) == state_digest(base)
