"""Parameters and multiply-adds of a prior, told from its architecture; no weights are needed."""

from __future__ import annotations

from rela_zoo.errors import RelaZooError
from rela_zoo.networks.cost import count_cost
from rela_zoo.prior._build import build
from rela_zoo.registry import PriorSpec

# Networks of one's own code may do anything when they are built.
_COUNTED = ("timm", "cifar-resnet", "open-nsfw")


def with_cost(spec: PriorSpec) -> PriorSpec:
    """The entry with `parameters` and `gmacs`, counted where it does not say them; as it is where nobody here can.

    Args:
        spec: the entry. What it says already stays.
    """
    p = spec.preprocessing
    if spec.family not in _COUNTED or p is None or (spec.parameters is not None and spec.gmacs is not None):
        return spec
    try:
        cost = count_cost(build(spec, "meta").requires_grad_(False), p.input_size)
    except (RelaZooError, NotImplementedError):  # a network that nobody has, or an operation without shapes alone
        return spec
    return spec.model_copy(update={"parameters": cost.parameters, "gmacs": float(f"{cost.macs / 1e9:.4g}")})
