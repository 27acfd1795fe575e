"""The losses of BYOL, SimCLR and DINO as functions of tensors; all in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 − 2·cos, averaged.

    Args:
        prediction: (B, D), of one view.
        target: (B, D), of the other view by the momentum network; no gradient flows into it.

    Source: Grill et al. 2020 (arXiv 2006.07733), equation 2.
    """
    return (2.0 - 2.0 * F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)).mean()


def nt_xent_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding an image's other view among all 2B − 1 other views.

    Args:
        first, second: (B, D), the two views of the same images in the same order.
        temperature: > 0.

    Source: Chen et al. 2020 (arXiv 2002.05709), equation 1.
    """
    z = F.normalize(torch.cat([first, second]).float(), dim=1)
    batch = len(first)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(2 * batch, dtype=torch.bool, device=z.device), float("-inf"))
    other = torch.arange(2 * batch, device=z.device).roll(batch)
    return F.cross_entropy(logits, other)


def dino_loss(
    student: list[Tensor],
    teacher: list[Tensor],
    centre: Tensor,
    teacher_temperature: float,
    student_temperature: float = 0.1,
) -> Tensor:
    """Cross-entropy between the teacher's and the student's assignments, over all pairs of different views.

    Args:
        student: a (B, K) of logits for each view.
        teacher: a (B, K) of logits for each view; no gradient flows into them.
        centre: (K,), running mean of the teacher's logits.
        teacher_temperature, student_temperature: > 0.

    Source: Caron et al. 2021 (arXiv 2104.14294), algorithm 1.
    """
    assignments = [F.softmax((logits.detach().float() - centre) / teacher_temperature, dim=1) for logits in teacher]
    logs = [F.log_softmax(logits.float() / student_temperature, dim=1) for logits in student]
    pairs = [(p, q) for i, p in enumerate(assignments) for j, q in enumerate(logs) if i != j]
    return sum(-(p * q).sum(1).mean() for p, q in pairs) / len(pairs)
