"""Lower precision for speed: which there are, and whether a prior's rows stay what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rela_zoo._io.log import logger
from rela_zoo.data import ImageSource
from rela_zoo.embeddings._agreement import LEAST_COSINE, MOST_DIFFERENCE, agreement
from rela_zoo.embeddings._forward import on_device
from rela_zoo.embeddings._loading import image_loader
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

log = logger(__name__)

Precision = Literal["32", "bf16", "16"]
PRECISIONS: dict[str, torch.dtype | None] = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}

_LOOKED_AT = 32


def check_precision(prior: Prior, source: ImageSource, device: torch.device, precision: str) -> None:
    """Refuse a precision that the device does not have, or that changes rows; 32 images are embedded in both.

    Raises:
        EmbeddingsError: with the figures.
    """
    lower = PRECISIONS[precision]
    if lower is None:
        return
    has_it = torch.amp.autocast_mode.is_autocast_available(device.type)
    if device.type == "cuda" and lower is torch.bfloat16:
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    if not has_it:
        raise EmbeddingsError(
            f"the device {device} does not compute in {precision}", expected="a device that does", fix="--precision 32"
        )
    picks = [int(i) for i in np.unique(np.linspace(0, len(source) - 1, _LOOKED_AT).round())]
    batch = next(iter(image_loader(source, prior.transform, [picks], 0, digests=False)))
    if not batch.pixels:
        return  # none of them can be decoded, which is judged elsewhere
    found = []
    for dtype in (lower, None):
        with on_device(prior, device, dtype) as forward:
            found.append(forward.start(batch).wait().rows.clone())
    near = agreement(*found)
    log.info(
        "precision %s: %d rows are at most %.2g of their length away from those of float32; smallest cosine %.6f",
        precision, len(batch.positions), near.difference, near.cosine,
    )  # fmt: skip
    if not (near.cosine >= LEAST_COSINE and near.difference <= MOST_DIFFERENCE):  # NaN, too
        raise EmbeddingsError(
            f"precision {precision} changes the rows of this prior too much",
            expected=f"cosine {LEAST_COSINE} or more with the rows of float32, and at most {MOST_DIFFERENCE:.0%} of "
            "their length away, for each image",
            got=f"cosine {near.cosine:.6f}, {near.difference:.2%}",
            fix="--precision 32" + (", or bf16, whose range is that of float32" if precision == "16" else ""),
        )
