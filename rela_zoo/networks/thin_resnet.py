"""The thin ResNet-50 of Yahoo's open_nsfw, with its normalisations folded into the convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Blocks and width of each stage; a block's output is four times as wide.
_STAGES = ((3, 32), (4, 64), (6, 128), (3, 256))


class _Bottleneck(nn.Module):
    """1×1, 3×3, 1×1; unlike torchvision's, the first convolution has the stride."""

    def __init__(self, in_planes: int, planes: int, stride: int, project: bool) -> None:
        super().__init__()
        self.branch2a = nn.Conv2d(in_planes, planes, 1, stride=stride)
        self.branch2b = nn.Conv2d(planes, planes, 3, padding=1)
        self.branch2c = nn.Conv2d(planes, 4 * planes, 1)
        self.proj_shortcut = nn.Conv2d(in_planes, 4 * planes, 1, stride=stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch2c(F.relu(self.branch2b(F.relu(self.branch2a(x)))))
        return F.relu(out + self.proj_shortcut(x))


class ThinResNet50(nn.Module):
    """ResNet-50 of half the usual width (Yahoo's open_nsfw, 2016); 1024 features.

    Args:
        num_classes: outputs of the last linear layer; 0 leaves it out, so that calling returns the features.
    """

    num_features = 1024

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        planes = 64
        for number, (blocks, width) in enumerate(_STAGES):
            stage = nn.Sequential()
            for block in range(blocks):
                first = block == 0
                stage.append(_Bottleneck(planes, width, 2 if first and number else 1, project=first))
                planes = 4 * width
            self.add_module(f"stage{number}", stage)
        self.fc = nn.Linear(planes, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch, or logits where there are classes.

        Args:
            x: (B, 3, 224, 224).

        Returns:
            (B, 1024) or (B, classes).
        """
        # Padded at the far side only. Whatever pads there is below every feature after ReLU, as if it were not.
        x = F.max_pool2d(F.pad(F.relu(self.conv_1(x)), (0, 1, 0, 1)), 3, stride=2)
        for number in range(len(_STAGES)):
            x = self.get_submodule(f"stage{number}")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out
