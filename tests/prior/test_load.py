from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from rela_zoo._io import paths
from rela_zoo.errors import RegistryError, UnknownPriorError, WeightsError
from rela_zoo.networks.cifar_resnet import CifarResNet, with_cifar_stem
from rela_zoo.prior import Prior, UnpinnedWeightsWarning, load_prior
from rela_zoo.prior._preprocessing import reference_preprocessing

pytestmark = pytest.mark.filterwarnings("ignore::rela_zoo.prior.UnpinnedWeightsWarning")


@pytest.fixture(scope="module")
def embedded() -> Prior:
    return load_prior("cifar10-resnet20", strict=True)


class TestEmbedded:
    def test_equals_the_network_loaded_by_hand(self, embedded):
        state = load_file(paths.packaged_weights() / "cifar10-resnet20.safetensors")
        by_hand = CifarResNet(20, num_classes=10).eval()
        by_hand.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
        x = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(embedded(x), by_hand.forward_features(x))

    def test_stays_frozen_and_in_evaluation_mode(self, embedded):
        outer = nn.Sequential(embedded)
        outer.train()
        assert not any(module.training for module in embedded.modules())
        before = {key: value.clone() for key, value in embedded.state_dict().items()}
        out = outer(torch.randn(8, 3, 32, 32))
        assert not out.requires_grad
        assert not any(parameter.requires_grad for parameter in embedded.parameters())
        assert all(torch.equal(before[key], value) for key, value in embedded.state_dict().items())

    def test_gives_float32_under_autocast_and_for_half_input(self, embedded):
        x = torch.randn(2, 3, 32, 32)
        plain = embedded(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(embedded(x), plain)
        assert embedded(x.half()).dtype == torch.float32

    @pytest.mark.parametrize(
        "x",
        [torch.zeros(3, 32, 32), torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)],
        ids=["no batch", "grey", "bytes"],
    )
    def test_refuses_what_is_no_batch_of_images(self, embedded, x):
        with pytest.raises(ValueError, match="floating-point batch"):
            embedded(x)

    def test_can_be_copied_and_its_transform_pickled(self, embedded, image):
        assert torch.equal(pickle.loads(pickle.dumps(embedded.transform))(image), embedded.transform(image))
        twin = copy.deepcopy(embedded)
        x = torch.randn(1, 3, 32, 32)
        assert torch.equal(twin(x), embedded(x))
        assert twin.identity() == embedded.identity()

    def test_identity_tells_preprocessings_apart(self, embedded):
        other = load_prior("cifar10-resnet20", preprocessing="rela-reference")
        mine, its = embedded.identity(), other.identity()
        assert {key for key in mine if mine[key] != its[key]} == {"preprocessing", "preprocessing_digest"}
        assert all(isinstance(value, str | int) for value in mine.values())
        assert embedded.spec.preprocessing is not None
        assert other.transform.preprocessing == reference_preprocessing(embedded.spec.preprocessing)

    def test_an_unknown_preprocessing(self):
        with pytest.raises(RegistryError, match="upstream or rela-reference"):
            load_prior("cifar10-resnet20", preprocessing="best")

    def test_a_flipped_byte_is_refused(self, tmp_path, monkeypatch):
        data = bytearray((paths.packaged_weights() / "cifar10-resnet20.safetensors").read_bytes())
        data[-100] ^= 1
        (tmp_path / "cifar10-resnet20.safetensors").write_bytes(data)
        monkeypatch.setattr(paths, "packaged_weights", lambda: tmp_path)
        with pytest.raises(WeightsError, match="sha256"):
            load_prior("cifar10-resnet20")


class TestRandom:
    def test_is_deterministic_and_leaves_global_generators_alone(self):
        torch.manual_seed(123)
        expected = torch.rand(3)
        torch.manual_seed(123)
        first = load_prior("random")
        assert torch.equal(torch.rand(3), expected)
        torch.manual_seed(9)
        second = load_prior("rand")
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(first(x), second(x))
        assert first.identity() == second.identity()
        assert first.identity()["seed"] == 0

    def test_the_seed_changes_the_network_and_the_identity(self):
        one = load_prior("random")
        other = load_prior(one.spec.model_copy(update={"seed": 1}))
        assert one.identity()["weights_sha256"] != other.identity()["weights_sha256"]

    def test_blocks_take_part(self):
        """timm starts residual branches at zero, which would leave an untrained network almost linear."""
        norms = [m for m in load_prior("random").modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(bool(norm.weight.any()) for norm in norms)

    def test_any_architecture_of_timm(self):
        prior = load_prior("random-mobilenetv3_small_050")
        assert prior.spec.preprocessing is not None
        config = timm.create_model("mobilenetv3_small_050").pretrained_cfg
        assert prior.spec.preprocessing.input_size == config["input_size"][-1]
        assert prior.spec.preprocessing.mean == tuple(config["mean"])
        x = torch.randn(2, 3, 224, 224)
        assert prior(x).shape == (2, prior.dim)
        assert prior.spec.dim == prior.dim == 1024

    def test_features_fit_float16(self):
        """EfficientNet shrinks its input to about 1e-5 when untrained; float16 has no digits left there."""
        prior = load_prior("random-efficientnet_b0")
        rows = prior(torch.randn(2, 3, 224, 224))
        assert 2**-7 < rows.pow(2).mean().sqrt() < 2**7
        torch.testing.assert_close(rows.half().float(), rows, rtol=1e-3, atol=1e-5)

    def test_an_unknown_architecture_suggests_the_nearest(self):
        with pytest.raises(UnknownPriorError, match="resnet50"):
            load_prior("random-resnet5")


class TestLocal:
    def test_a_state_dict_with_head_and_cifar_stem(self, make_spec, supply):
        torch.manual_seed(0)
        source = with_cifar_stem(timm.create_model("resnet18", num_classes=10), padding=2).eval()
        spec = make_spec(stem="cifar", stem_padding=2)
        supply(spec, source.state_dict())
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            expected = source.forward_head(source.forward_features(x), pre_logits=True)
        torch.testing.assert_close(load_prior(spec)(x), expected)
        with_other_padding = load_prior(spec.model_copy(update={"stem_padding": 1}))
        assert with_other_padding.identity()["architecture"] != load_prior(spec).identity()["architecture"]

    def test_a_6n_plus_2_network_in_float16_without_counters(self, make_spec, supply):
        source = CifarResNet(32, num_classes=10).eval()
        state = {k: v.half() for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
        spec = make_spec(family="cifar-resnet", architecture="resnet32", dim=64)
        supply(spec, state)
        source.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        x = torch.randn(2, 3, 32, 32)
        prior = load_prior(spec)
        with torch.no_grad():
            # In another memory layout the sums are rounded in another order.
            torch.testing.assert_close(prior(x), source.forward_features(x), rtol=1e-5, atol=1e-4)
        assert all(value.dtype == torch.float32 for value in prior.parameters())

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda s: s.pop("layer1.0.conv1.weight"), "1 missing: layer1.0.conv1.weight"),
            (lambda s: s.pop("bn1.running_mean"), "1 missing: bn1.running_mean"),
            (lambda s: s.update({"surprise": torch.zeros(1)}), "1 left over: surprise"),
            (lambda s: s.update({"conv1.weight": torch.zeros(16, 3, 5, 5)}), r"conv1.weight \(16, 3, 5, 5\) instead"),
        ],
    )
    def test_loading_is_strict(self, make_spec, supply, spoil, message):
        state = dict(CifarResNet(8).state_dict())
        spoil(state)
        spec = make_spec(family="cifar-resnet", architecture="resnet8", dim=64)
        supply(spec, state)
        with pytest.raises(WeightsError, match=message):
            load_prior(spec)

    def test_buffers_that_no_file_holds_are_computed(self, make_spec, supply):
        """DINOv3's rotary table is made by its constructor: it must not stay empty."""
        torch.manual_seed(0)
        small = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 64, "global_pool": "token"}
        source = timm.create_model("vit_small_patch16_dinov3", num_classes=0, **small).eval()
        absent = {name for name, _ in source.named_buffers()} - set(source.state_dict())
        assert absent, "pick another architecture for this test"
        spec = make_spec(
            architecture="vit_small_patch16_dinov3",
            model_args=small,
            dim=64,
            preprocessing={"input_size": 64, "resize": 64, "interpolation": "bicubic", "mean": 0.5, "std": 0.5},
        )
        supply(spec, source.state_dict())
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(load_prior(spec)(x), source(x))

    def test_position_embeddings_are_resampled_as_timm_does(self, make_spec, supply):
        torch.manual_seed(0)
        small = {"embed_dim": 64, "depth": 1, "num_heads": 2}
        big = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=112, **small).eval()
        spec = make_spec(
            architecture="vit_small_patch14_dinov2",
            model_args={**small, "img_size": 56},
            dim=64,
            preprocessing={"input_size": 56, "resize": 56, "interpolation": "bicubic", "mean": 0.5, "std": 0.5},
        )
        supply(spec, big.state_dict())
        network = load_prior(spec).network
        assert network.pos_embed.shape == (1, 1 + 4 * 4, 64)
        big.set_input_size(img_size=56)
        x = torch.randn(2, 3, 56, 56)
        with torch.no_grad():
            torch.testing.assert_close(network(x), big(x), atol=1e-5, rtol=1e-4)

    def test_a_wrong_dim_in_the_entry(self, make_spec, supply):
        spec = make_spec(dim=256)
        supply(spec, timm.create_model("resnet18", num_classes=0).state_dict())
        with pytest.raises(RegistryError, match="dim: 512"):
            load_prior(spec)

    def test_arguments_that_timm_does_not_take(self, make_spec, supply):
        spec = make_spec(model_args={"nonsense": 1})
        supply(spec, {"a": torch.zeros(1)})
        with pytest.raises(RegistryError, match="nonsense"):
            load_prior(spec)

    def test_a_cifar_stem_where_there_is_none(self, make_spec, supply):
        spec = make_spec(architecture="vit_tiny_patch16_224", stem="cifar", dim=192)
        supply(spec, {"a": torch.zeros(1)})
        with pytest.raises(RegistryError, match="CIFAR stem"):
            load_prior(spec)

    def test_weights_may_lie_beside_a_private_entry(self, tmp_path, home):
        from safetensors.torch import save_file

        from rela_zoo.registry import read_entry

        save_file(dict(CifarResNet(8).state_dict()), tmp_path / "net.safetensors")
        (tmp_path / "mine.yaml").write_text(
            "{id: mine, title: Mine, source: local, family: cifar-resnet, architecture: resnet8, dim: 64,\n"
            " file: net.safetensors, licence: mit, preprocessing: {input_size: 32, resize: 32,\n"
            " interpolation: bilinear, mean: 0.5, std: 0.5}}\n"
        )
        assert load_prior(tmp_path / "mine.yaml").dim == 64
        assert load_prior(read_entry(tmp_path / "mine.yaml")).dim == 64


class TestPins:
    def test_an_unpinned_entry_warns_with_the_hash_it_loaded(self, make_spec, supply):
        spec = make_spec(family="cifar-resnet", architecture="resnet8", dim=64)
        supply(spec, CifarResNet(8).state_dict())
        with pytest.warns(UnpinnedWeightsWarning, match="no known hash") as seen:
            prior = load_prior(spec)
        assert str(prior.identity()["weights_sha256"]) in str(seen[0].message)
        with pytest.raises(WeightsError, match="refused"):
            load_prior(spec, strict=True)

    def test_a_pinned_one_is_silent_and_passes_strict(self, make_spec, supply):
        import hashlib

        spec = make_spec(family="cifar-resnet", architecture="resnet8", dim=64)
        path = supply(spec, CifarResNet(8).state_dict())
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        pinned = make_spec(family="cifar-resnet", architecture="resnet8", dim=64, sha256=sha256, pin="third-party")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_prior(pinned, strict=True).identity()["weights_sha256"] == sha256
        wrong = make_spec(family="cifar-resnet", architecture="resnet8", dim=64, sha256="0" * 64, pin="third-party")
        with pytest.raises(WeightsError, match="third party"):
            load_prior(wrong)

    @pytest.mark.parametrize("name", ["clip-rn101", "clip-rn50x4", "siglip-vit-b16", "dino-vit-s16", "cf10"])
    def test_packaged_entries_without_pin_are_refused_before_anything_is_fetched(self, name):
        with pytest.raises(WeightsError, match="no known"):
            load_prior(name, strict=True)


class TestCallable:
    CODE = (
        "import torch\n"
        "class Means(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.mean((2, 3))\n"
        "def build():\n"
        "    return Means()\n"
        "def nothing():\n"
        "    return 3\n"
    )

    @pytest.fixture
    def entry(self, tmp_path):
        def write(callable_: str, **more: str) -> str:
            (tmp_path / "my_means.py").write_text(self.CODE)
            path = tmp_path / "means.yaml"
            path.write_text(
                f"{{id: means, title: Means, source: callable, family: callable, architecture: '{callable_}',\n"
                " licence: mit, preprocessing: {input_size: 8, resize: 8, interpolation: bilinear, mean: 0, std: 1}}\n"
            )
            return str(path)

        return write

    def test_a_module_beside_the_entry(self, entry):
        prior = load_prior(entry("my_means:build"))
        x = torch.rand(2, 3, 8, 8)
        torch.testing.assert_close(prior(x), x.mean((2, 3)))
        assert prior.dim == 3
        assert prior.identity()["architecture"] == "callable/my_means:build"

    @pytest.mark.parametrize(
        ("callable_", "message"),
        [
            ("my_means:absent", "names no callable"),
            ("my_means:nothing", "gives no network"),
            ("no_such_module_here:build", "not importable"),
        ],
    )
    def test_callables_that_do_not_serve(self, entry, callable_, message):
        with pytest.raises(RegistryError, match=message):
            load_prior(entry(callable_))
