"""The 6n+2 ResNets of CIFAR, of this package."""

from __future__ import annotations

from torch import nn

from rela_zoo.networks.cifar_resnet import CifarResNet
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec


class CifarResNets(Family):
    """`resnet<6n+2>`: 64 features."""

    name = "cifar-resnet"

    def build(self, spec: PriorSpec) -> nn.Module:
        return CifarResNet(int(spec.architecture.removeprefix("resnet")))

    def heads(self, spec: PriorSpec, network: nn.Module) -> tuple[str, ...]:
        return ("linear",)
