"""A student trained on one prior's targets, read in the space of another prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rela_zoo.errors import TransportError
from rela_zoo.transport._linear import apply
from rela_zoo.transport._prior_transport import PriorTransport
from rela_zoo.transport._target_transport import TargetTransport


@torch.no_grad()
def read_in(predictions: Tensor, targets: TargetTransport, between: PriorTransport) -> Tensor:
    """What a student says about images, as rows of another prior: predictions → rows of A → rows of B.

    The ReLA loss is a cosine, so a student learns the direction of its targets and not their length. A target
    dimension has deviation 1 over the data set, so the root mean square of a target's length is √k: that length is
    given to every prediction before the way back through `targets`.

    Args:
        predictions: (B, k) floating, outputs of the head that was trained (or kept) on `targets`.
        targets: the target transport of prior A that the student was trained with.
        between: from prior A to prior B.

    Returns:
        (B, E) float32 in the space of B, on the device of the predictions: comparable with embeddings by B, such as a
        bank for nearest neighbours, or the text embeddings of class names for zero-shot classification.

    Raises:
        TransportError: `between` does not begin at the prior of `targets`, or widths don't fit together.
    """
    ours, theirs = targets.stats.prior, between.source.prior
    if ours is not None and theirs is not None and ours != theirs:
        raise TransportError(
            "the student was trained on another prior than the one this transport comes from",
            expected=f"a transport from {ours}",
            got=f"one from {theirs}",
            fix=f"`rela-zoo transport fit` from embeddings by {ours} to those by {between.target.prior}",
        )
    if predictions.ndim != 2 or not 1 <= predictions.shape[1] <= targets.max_dim:
        raise TransportError(
            "these predictions are not for these targets",
            expected=f"shape (B, k), k from 1 to {targets.max_dim}",
            got=f"shape {tuple(predictions.shape)}",
        )
    here, k = predictions.device, predictions.shape[1]
    with torch.autocast(here.type, enabled=False):
        scaled = torch.nn.functional.normalize(predictions.float(), dim=1) * math.sqrt(k)
        back = targets.to(here).inverse(k)
        return between(apply(back, scaled))
