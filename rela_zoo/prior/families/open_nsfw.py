"""Yahoo's open_nsfw."""

from __future__ import annotations

import re

from torch import Tensor, nn

from rela_zoo.errors import Problem
from rela_zoo.networks.thin_resnet import ThinResNet50
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec

_BLOCK = re.compile(r"bn_stage(\d)_block(\d)_(branch2[abc]|proj_shortcut)/FusedBatchNormV3:0\.(weight|bias)")
_OUTER = {
    "bn_1/FusedBatchNormV3:0.weight": "conv_1.weight",
    "bn_1/FusedBatchNormV3:0.bias": "conv_1.bias",
    "fc_nsfw/MatMul:0.weight": "fc.weight",
    "fc_nsfw/BiasAdd:0.bias": "fc.bias",
}


class OpenNsfw(Family):
    """`resnet50-thin`: 1024 features of a network that tells what is not safe for work."""

    name = "open-nsfw"

    def check(self, spec: PriorSpec) -> list[Problem]:
        if spec.architecture == "resnet50-thin" and not spec.model_args and spec.stem == "imagenet":
            return []
        return [Problem("architecture", "resnet50-thin, without arguments", spec.architecture, "correct the entry")]

    def build(self, spec: PriorSpec) -> nn.Module:
        return ThinResNet50()

    def heads(self, spec: PriorSpec, network: nn.Module) -> tuple[str, ...]:
        return ("fc",)

    def to_own_names(self, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names of the published ONNX graph. Its channels are blue, green, red, and ours are red, green, blue."""
        found = {}
        for key, value in state.items():
            name = _OUTER.get(key) or _BLOCK.sub(r"stage\1.\2.\3.\4", key)
            if name != key and name == "conv_1.weight":
                value = value.flip(1)
            elif name != key and name == "fc.weight":
                value = value.T
            found[name] = value
        return found
