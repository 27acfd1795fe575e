"""The image tower of a whole-CLIP file, against small networks written here with OpenAI's names for the tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rela_zoo.prior import load_prior

CLIP_NORM = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor, exact: bool) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(x))
        hidden = F.gelu(hidden) if exact else hidden * torch.sigmoid(1.702 * hidden)
        return x + self.mlp["c_proj"](hidden)


class OracleViT(nn.Module):
    """CLIP's vision transformer, section 2.4 of arXiv 2103.00020, in the tensor names of OpenAI's release."""

    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(_Block(width, heads) for _ in range(layers))})
        self.proj = nn.Parameter(torch.randn(width, out))

    def forward(self, x: Tensor, exact: bool = False, project: bool = True) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer["resblocks"]:
            x = block(x, exact)
        x = self.ln_post(x[:, 0])
        return x @ self.proj if project else x


class _Bottleneck(nn.Module):
    def __init__(self, inside: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.stride = stride
        if stride > 1 or inside != 4 * planes:
            # Named "0" and "1" in the release: the pooling before them is "-1".
            self.downsample = nn.ModuleDict(
                {"0": nn.Conv2d(inside, 4 * planes, 1, bias=False), "1": nn.BatchNorm2d(4 * planes)}
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(F.avg_pool2d(out, self.stride)))
        if hasattr(self, "downsample"):
            x = self.downsample["1"](self.downsample["0"](F.avg_pool2d(x, self.stride)))
        return F.relu(out + x)


class OracleResNet(nn.Module):
    """CLIP's ResNet-50 (three-convolution stem, anti-aliased strides, attention pool) in OpenAI's tensor names."""

    def __init__(self, size: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        inside = width
        for index, blocks in enumerate((3, 4, 6, 3)):
            planes, stage = width * 2**index, nn.Sequential()
            for block in range(blocks):
                stage.append(_Bottleneck(inside, planes, 2 if index and not block else 1))
                inside = 4 * planes
            setattr(self, f"layer{index + 1}", stage)
        self.heads = heads
        self.attnpool = nn.ParameterDict({"positional_embedding": torch.randn((size // 32) ** 2 + 1, inside)})
        for name in "qkv":
            setattr(self, f"_{name}", nn.Linear(inside, inside))
        self._c = nn.Linear(inside, out)

    def forward(self, x: Tensor) -> Tensor:
        for index in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)))
        x = F.avg_pool2d(x, 2)
        for index in (1, 2, 3, 4):
            x = getattr(self, f"layer{index}")(x)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.attnpool["positional_embedding"]
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        q, k, v = split(self._q(x[:, :1])), split(self._k(x)), split(self._v(x))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return self._c((weights @ v).transpose(1, 2).flatten(2)[:, 0])

    def named_state(self) -> dict[str, Tensor]:
        renamed = {f"_{name}.": f"attnpool.{name}_proj." for name in "qkvc"}
        state = {}
        for key, value in self.state_dict().items():
            for old, new in renamed.items():
                key = new + key.removeprefix(old) if key.startswith(old) else key
            state[key] = value
        return state


def whole_clip(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors: the image tower under `visual.`, and something of the text tower."""
    text = {
        "token_embedding.weight": torch.randn(10, 4),
        "text_projection": torch.randn(4, 4),
        "logit_scale": torch.tensor(1.0),
        "transformer.resblocks.0.ln_1.weight": torch.randn(4),
        "positional_embedding": torch.randn(7, 4),
    }
    return {**text, **{f"visual.{key}": value for key, value in tower.items()}}


def randomise(network: nn.Module) -> nn.Module:
    """Values that no initialisation leaves trivial, BatchNorm's statistics included."""
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
    return network.eval()


@pytest.fixture
def vit(make_spec, supply):
    torch.manual_seed(0)
    oracle = randomise(OracleViT(size=64, patch=32, width=64, layers=2, heads=2, out=24))
    spec = make_spec(
        architecture="vit_base_patch32_clip_quickgelu_224",
        model_args={"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 2},
        layer="projection",
        dim=24,
        file="open_clip_model.safetensors",
        preprocessing={"input_size": 64, "resize": 64, "interpolation": "bicubic", **CLIP_NORM},
    )
    supply(spec, whole_clip(oracle.state_dict()))
    return oracle, spec


@pytest.mark.filterwarnings("ignore::rela_zoo.prior.UnpinnedWeightsWarning")
class TestVisionTransformer:
    def test_equals_the_oracle(self, vit):
        oracle, spec = vit
        x = torch.randn(3, 3, 64, 64)
        torch.testing.assert_close(load_prior(spec)(x), oracle(x).detach(), atol=2e-4, rtol=1e-4)

    def test_before_the_projection(self, vit, supply):
        oracle, spec = vit
        pooled = spec.model_copy(update={"layer": "pooled", "dim": 64})
        x = torch.randn(3, 3, 64, 64)
        expected = oracle(x, project=False).detach()
        torch.testing.assert_close(load_prior(pooled)(x), expected, atol=2e-4, rtol=1e-4)
        assert load_prior(pooled).identity()["layer"] != load_prior(spec).identity()["layer"]

    def test_the_plain_name_would_load_and_compute_something_else(self, vit):
        """The trap itself: why the entries name the quickgelu architectures."""
        oracle, spec = vit
        plain = spec.model_copy(update={"architecture": "vit_base_patch32_clip_224"})
        x = torch.randn(3, 3, 64, 64)
        out = load_prior(plain)(x)
        torch.testing.assert_close(out, oracle(x, exact=True).detach(), atol=2e-4, rtol=1e-4)
        assert (out - oracle(x)).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore::rela_zoo.prior.UnpinnedWeightsWarning")
def test_resnet_tower_equals_the_oracle(make_spec, supply):
    torch.manual_seed(1)
    oracle = randomise(OracleResNet(size=64, width=8, heads=4, out=24))
    spec = make_spec(
        architecture="resnet50_clip",
        model_args={"img_size": 64, "width_factor": 0.125},
        layer="projection",
        dim=24,
        file="open_clip_model.safetensors",
        preprocessing={"input_size": 64, "resize": 64, "interpolation": "bicubic", **CLIP_NORM},
    )
    supply(spec, whole_clip(oracle.named_state()))
    x = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(load_prior(spec)(x), oracle(x).detach(), atol=1e-4, rtol=1e-4)
