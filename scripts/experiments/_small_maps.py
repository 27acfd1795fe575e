"""Convolutions on maps of one to four positions, as matrix products of what can see data.

A ResNet with the ordinary stem works on 2×2 and 1×1 maps when images have 32 pixels: eight of nine taps of a 3×3
filter on a 1×1 map see nothing but padding, and what remains is a matrix product, for which convolution kernels are
badly suited. Here each output position is one product of the taps that lie inside the map with the pixels under them.
The function and the gradients are those of the convolution; taps that see data nowhere have no part in the output, no
gradient, and are left out, so that optimisers which treat each weight alone (AdamW) train the same network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_POSITIONS = 4  # of the output; above, the convolution is kept
Span = tuple[int, int]


def _spans(size: int, kernel: int, stride: int, padding: int) -> list[tuple[Span, Span]]:
    """For each output position along one axis: which taps lie inside the map, and which pixels they see."""
    spans = []
    for start in range(-padding, size + padding - kernel + 1, stride):
        first, last = max(0, start), min(size, start + kernel)
        spans.append(((first - start, last - start), (first, last)))
    return spans


class SmallMapConv2d(nn.Module):
    """A convolution for maps of one fixed small size.

    Args:
        conv: whose function this takes over: zero padding, one group, no dilation, no bias.
        size: (H, W) of its input in pixels.
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (_spans(size[i], conv.kernel_size[i], conv.stride[i], conv.padding[i]) for i in (0, 1))
        self._shape = len(rows), len(columns)
        # Taps that see data somewhere; they are one block, because a filter moves over the map in one sweep.
        top, bottom = min(t[0] for t, _ in rows), max(t[1] for t, _ in rows)
        left, right = min(t[0] for t, _ in columns), max(t[1] for t, _ in columns)
        self._window = bottom - top, right - left
        self._places = [
            ((ty[0] - top, ty[1] - top), (tx[0] - left, tx[1] - left), py, px) for ty, py in rows for tx, px in columns
        ]
        seen = conv.weight.detach()[:, :, top:bottom, left:right]
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        # Two dimensions, taps first: the blocks of a product are then contiguous, and no change of memory format acts.
        self.weight = nn.Parameter(seen.permute(2, 3, 1, 0).reshape(-1, conv.out_channels).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, h, w), channels last."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        weight = self.weight.to(x.dtype).view(*self._window, self.in_channels, self.out_channels)
        pixels = x.permute(0, 2, 3, 1)
        products = [
            pixels[:, py[0] : py[1], px[0] : px[1]].reshape(len(x), -1)
            @ weight[ty[0] : ty[1], tx[0] : tx[1]].reshape(-1, self.out_channels)
            for ty, tx, py, px in self._places
        ]
        return torch.stack(products, dim=1).view(len(x), *self._shape, self.out_channels).permute(0, 3, 1, 2)


def replace_small_convolutions(network: nn.Module, images: Tensor) -> int:
    """Replace each plain convolution of `network` with an output of at most four positions; in place.

    Args:
        network: any module of images.
        images: (1, 3, H, W), of the size that the network will be fed from now on.

    Returns:
        How many were replaced.
    """
    sizes: dict[str, tuple[int, int]] = {}
    plain = {name: m for name, m in network.named_modules() if type(m) is nn.Conv2d and _is_plain(m)}
    hooks = [
        conv.register_forward_hook(lambda _m, inputs, _out, name=name: sizes.update({name: tuple(inputs[0].shape[2:])}))
        for name, conv in plain.items()
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(images)
    network.train(training)
    for hook in hooks:
        hook.remove()
    replaced = 0
    for name, size in sizes.items():
        small = SmallMapConv2d(plain[name], size)
        if len(small._places) <= _POSITIONS:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, small)
            replaced += 1
    return replaced


def _is_plain(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )
