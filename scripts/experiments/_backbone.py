"""The student's backbone, and how small images let it leave out work that changes nothing."""

from __future__ import annotations

import timm
import torch
from torch import nn

from rela_zoo.prior._cifar_resnet import with_cifar_stem


def build_backbone(name: str, stem: str, *, trim: bool, size: int = 32) -> nn.Module:
    """An untrained timm network without classifier, (B, 3, H, W) → (B, D); initialised from torch's global generator.

    Args:
        name: timm architecture.
        stem: `imagenet` as it is, or `cifar`: 3×3 of stride 1, no max-pooling.
        trim: leave out filter taps that never see anything but padding at this image size; see `trim_padding_taps`.
        size: of the images in pixels.
    """
    network = timm.create_model(name, pretrained=False, num_classes=0)
    if stem == "cifar":
        with_cifar_stem(network)
    if trim:
        trim_padding_taps(network, size)
    return network.to(memory_format=torch.channels_last)


def trim_padding_taps(network: nn.Module, size: int) -> int:
    """Replace convolutions on maps so small that some taps of the filter see only padding, by ones without these taps.

    A ResNet with the ordinary stem works on 1×1 maps in its last stage when images have 32 pixels: of each 3×3 filter
    one tap in nine sees data. The others have no part in the output and no gradient, so the function, the gradients of
    the remaining weights and (for optimisers that treat each weight alone, as AdamW does) the whole training are the
    same; weights and work of the last stage shrink to a ninth.

    Args:
        network: takes (B, 3, size, size); changed in place.
        size: in pixels; another size must not be fed afterwards.

    Returns:
        How many convolutions were replaced.
    """
    shapes: dict[str, tuple[int, int]] = {}
    convolutions = {name: m for name, m in network.named_modules() if type(m) is nn.Conv2d}
    hooks = [
        module.register_forward_hook(
            lambda _m, inputs, _out, name=name: shapes.update({name: tuple(inputs[0].shape[-2:])})
        )
        for name, module in convolutions.items()
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    network.train(training)
    for hook in hooks:
        hook.remove()
    replaced = 0
    for name, shape in shapes.items():
        slim = _without_padding_taps(convolutions[name], shape)
        if slim is not None:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, slim)
            replaced += 1
    return replaced


def _without_padding_taps(conv: nn.Conv2d, shape: tuple[int, int]) -> nn.Conv2d | None:
    """The same convolution for one-position outputs of maps of `shape`, or None where all taps are needed."""
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    if isinstance(padding, str) or conv.dilation != (1, 1) or conv.groups != 1 or conv.padding_mode != "zeros":
        return None
    for axis in (0, 1):
        outputs = (shape[axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1
        # With one output the filter lies at −padding, and must cover the whole map for what remains to be unpadded.
        if outputs != 1 or padding[axis] == 0 or kernel[axis] < padding[axis] + shape[axis]:
            return None
    slim = nn.Conv2d(conv.in_channels, conv.out_channels, shape, bias=conv.bias is not None)
    rows, columns = (slice(padding[axis], padding[axis] + shape[axis]) for axis in (0, 1))
    with torch.no_grad():
        slim.weight.copy_(conv.weight[:, :, rows, columns])
        if conv.bias is not None:
            slim.bias.copy_(conv.bias)
    return slim
