"""Weights of EfficientNets under the names of EfficientNet-PyTorch, which most published files have."""

from __future__ import annotations

from torch import Tensor, nn

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# A block that widens its input first has one convolution more, so that the same normalisation has another number.
_WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def to_timm_names(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of such a file under timm's names; of any other file as they are.

    Blocks are numbered through there and by stage in timm. A name that is none of a plain EfficientNet stays, and is
    refused by whoever compares the names with the network's.
    """
    stages = getattr(network, "blocks", None)
    if "_conv_stem.weight" not in state or not isinstance(stages, nn.Sequential):
        return state
    # "blocks.0.0", "blocks.1.0", "blocks.1.1", …, in order.
    inner = [(f"blocks.{stage}.{name}", block) for stage, part in stages.named_children()
             for name, block in part.named_children()]  # fmt: skip
    blocks = {
        str(number): (name, _WIDENING if hasattr(block, "conv_pwl") else _PLAIN)
        for number, (name, block) in enumerate(inner)
    }
    return {_renamed(key, blocks): value for key, value in state.items()}


def _renamed(key: str, blocks: dict[str, tuple[str, dict[str, str]]]) -> str:
    parts = key.split(".")
    if parts[0] == "_blocks" and len(parts) == 4 and parts[1] in blocks:
        prefix, names = blocks[parts[1]]
        return f"{prefix}.{names[parts[2]]}.{parts[3]}" if parts[2] in names else key
    return ".".join([_OUTER[parts[0]], *parts[1:]]) if parts[0] in _OUTER else key
