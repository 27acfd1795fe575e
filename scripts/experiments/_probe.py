"""Judging a backbone: features, a linear probe and nearest neighbours, all on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._data import Images, normalise
from rela_zoo.analysis.evaluate import knn_accuracy

_BATCH = 1000


@torch.no_grad()
def features(backbone: nn.Module, images: Images, precision: str) -> Tensor:
    """Features (N, D) float32 of un-augmented images, in evaluation mode and in the precision of training."""
    device = images.pixels.device
    training = backbone.training
    backbone.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        out = torch.cat([backbone(normalise(x)).float() for x in images.pixels.split(_BATCH)])
    backbone.train(training)
    return out


def evaluate(backbone: nn.Module, train: Images, test: Images, precision: str) -> dict[str, float]:
    """Accuracies on the test images, fractions: `linear_accuracy` and `knn_accuracy` (20 neighbours, cosine)."""
    a, b = features(backbone, train, precision), features(backbone, test, precision)
    return {
        "linear_accuracy": linear_probe(a, train.labels, b, test.labels),
        "knn_accuracy": knn_accuracy(a, train.labels, b, test.labels),
    }


def linear_probe(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, C: float = 1.0, max_iter: int = 1000
) -> float:
    """Accuracy of a logistic regression on standardised features; `linear_probe` on the device.

    Args:
        train_x: (N, D) float32.
        train_y: (N,) int64, 0, 1, ….
        test_x: (M, D) float32.
        test_y: (M,) int64.
        C: inverse strength of the L2 penalty, as in scikit-learn: ‖W‖²/2 + C·Σ losses.
        max_iter: of L-BFGS.
    """
    if not (torch.isfinite(train_x).all() and torch.isfinite(test_x).all()):
        raise ValueError("the features contain NaN or infinite values: the network diverged; try a smaller lr")
    mean, std = train_x.mean(0), train_x.std(0, unbiased=False)
    # As in rela_zoo.analysis.evaluate: a dimension constant up to rounding says nothing.
    scale = torch.where(std > 1e-6 * mean.abs().clamp(min=1e-6), 1.0 / std.clamp(min=1e-30), 0.0)
    train_x, test_x = (train_x - mean) * scale, (test_x - mean) * scale
    classes = int(train_y.max()) + 1
    weight = torch.zeros(classes, train_x.shape[1], device=train_x.device, requires_grad=True)
    bias = torch.zeros(classes, device=train_x.device, requires_grad=True)
    # The tolerances are scikit-learn's; the loss is the same, divided by C·N.
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iter, tolerance_grad=1e-4, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(train_x @ weight.T + bias, train_y) + weight.square().sum() / (2 * C * len(train_x))
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return float(((test_x @ weight.T + bias).argmax(1) == test_y).float().mean())
