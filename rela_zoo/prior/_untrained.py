"""Untrained networks: a usable prior, and the control of every other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rela_zoo.prior._build import build
from rela_zoo.registry import PriorSpec


def untrained(spec: PriorSpec) -> nn.Module:
    """The network of a `random` entry, initialised from its seed alone; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every GPU.
        torch.random.default_generator.manual_seed(spec.seed)
        network = build(spec)
    return _revive(network)


def _revive(network: nn.Module) -> nn.Module:
    """Give residual branches that start at zero a share in an untrained network.

    timm sets the last normalisation of each residual branch to zero. Training undoes that; in a network that is never
    trained the blocks would compute nothing (digits, k-NN on `random`: 61 % instead of 94 %). They get 1, the plain
    initialisation, and less in networks of more than 8 blocks, so that the variance of the sum grows by a factor of
    (1 + 8/n)^n < e^8 at most and features stay within float16.
    """
    dead = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not bool(module.weight.any())
    ]
    for weight in dead:
        nn.init.constant_(weight, min(1.0, math.sqrt(8 / len(dead))))
    return network


class _Scaled(nn.Module):
    """A network whose features are multiplied by a fixed factor."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("factor", torch.tensor(factor))
        self.factor: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x) * self.factor
        return out


@torch.no_grad()
def within_float16(network: nn.Module, input_size: int) -> nn.Module:
    """Bring the features of an untrained network into the range where float16 has its full precision.

    Some untrained networks shrink their input by many orders of magnitude (EfficientNet-B0's features are about 1e-5),
    and embeddings are stored as float16. A power of two changes no digit; networks near 1 are returned as they are.

    Args:
        network: giving (B, D).
        input_size: side of its input, pixels.
    """
    generator = torch.Generator().manual_seed(0)
    out = network(torch.randn(2, 3, input_size, input_size, generator=generator))
    size = float(out.double().pow(2).mean().sqrt())
    if not math.isfinite(size) or size == 0 or 2**-7 <= size <= 2**7:
        return network
    return _Scaled(network, 2.0 ** -round(math.log2(size))).eval()
