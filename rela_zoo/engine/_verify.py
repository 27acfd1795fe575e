"""Whether stored rows are of these pictures: by digests published with them, by the prior itself, or not known."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from rela_zoo._io.log import logger
from rela_zoo.engine._plan import PriorPlan
from rela_zoo.errors import EmbeddingsError, WeightsError

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.embeddings import EmbeddingTable

log = logger(__name__)

# Rows computed on another machine, in another batch size or rounded to float16 agree to about 1e-3 of a right angle;
# another image of the same class rarely comes above 0.95.
_SAME_IMAGE_COSINE = 0.99


def verify_rows(
    plan: PriorPlan,
    table: EmbeddingTable,
    positions: np.ndarray,
    source: ImageSource,
    device: torch.device,
    *,
    local: bool,
) -> None:
    """Make sure that rows joined by id are of these pictures, as far as `rela.verify` asks.

    Args:
        plan: of the prior.
        table: with the rows.
        positions: (N,) int64, the row of each image.
        source: the images.
        device: where the prior runs.
        local: whether the rows are of this machine. For rows of the Hub (hashes checked) weights are not downloaded
            just for this, unless a check is required and there is no other.

    Raises:
        EmbeddingsError: rows of other pictures; or nothing could be checked, and `rela.verify=required`.
    """
    config, required = plan.config, plan.config.verify == "required"
    if config.verify == 0:
        log.info("rela_zoo: rela.verify=0: whether the embeddings are of these pictures is not verified")
        return
    checked = refuse_other_pictures(table, source)
    again = _embed_again(plan, table, positions, source, device, download=local or (required and not checked))
    if checked or again:
        return
    if required:
        raise EmbeddingsError(
            "whether the embeddings are of these pictures can't be verified, and rela.verify=required",
            expected=f"digests of pictures in {table.path}, or the weights of {plan.name} in reach",
            got="neither: the embeddings were made by an older rela-zoo",
            fix="embed this data set anew, fetch the weights (`rela-zoo pull PRIOR --weights`), or set rela.verify=8",
        )
    warnings.warn(
        f"not verified: nothing here can tell whether the embeddings in {table.path} are of these pictures, or of "
        "others with the same names; rela.verify=required refuses such embeddings",
        stacklevel=2,
    )


def refuse_other_pictures(table: EmbeddingTable, source: ImageSource) -> int:
    """Compare pictures with the digests kept with the rows; how many could be compared.

    Raises:
        EmbeddingsError: some are other pictures.
    """
    from rela_zoo.embeddings import check_pictures

    fix = "embed this data set anew (rela.embeddings=null), or set rela.verify=0 if you know why they differ"
    return check_pictures(table, source).refuse(f"the embeddings in {table.path}", EmbeddingsError, fix)


def _embed_again(
    plan: PriorPlan,
    table: EmbeddingTable,
    positions: np.ndarray,
    source: ImageSource,
    device: torch.device,
    *,
    download: bool,
) -> bool:
    """Embed a few samples again and compare with the stored rows; whether that could be done."""
    from rela_zoo.prior import find_weights, load_prior

    config, spec = plan.config, plan.spec
    try:
        if not download and spec.has_weights:
            find_weights(spec, download=False)
        prior = load_prior(spec, preprocessing=config.preprocessing).to(device)
    except WeightsError as error:
        if download:
            warnings.warn(f"rela.verify is skipped, for the prior can't be loaded: {error.what}", stacklevel=2)
        return False
    picks = np.unique(np.linspace(0, len(source) - 1, config.samples_verified).round().astype(np.int64))
    with torch.no_grad():
        again = prior(torch.stack([prior.transform(source.image(int(i))) for i in picks]).to(device)).float().cpu()
    stored = table.rows(positions[picks]).float()
    cosines = torch.nn.functional.cosine_similarity(again, stored, dim=1)
    if float(cosines.min()) < _SAME_IMAGE_COSINE:
        worst = int(cosines.argmin())
        raise EmbeddingsError(
            f"the stored embedding of {source.ids[int(picks[worst])]} is not what {plan.name} gives for this image",
            expected=f"a cosine of at least {_SAME_IMAGE_COSINE} for {len(picks)} samples embedded again",
            got=f"{float(cosines.min()):.4f} (mean {float(cosines.mean()):.4f})",
            fix="embed this data set anew, or set rela.verify=0 if you know why they differ",
        )
    return True
