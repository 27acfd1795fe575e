"""What a prior is, told from its entry alone where the entry says which bytes are meant."""

from __future__ import annotations

from rela_zoo.prior._load import identity_of
from rela_zoo.prior._preprocessing import UPSTREAM, ImageTransform, reference_preprocessing
from rela_zoo.registry import PriorSpec


def prior_identity(spec: PriorSpec, preprocessing: str = UPSTREAM) -> dict[str, str | int] | None:
    """The identity that `load_prior(spec).identity()` would have, without weights and without a network.

    Args:
        spec: the entry.
        preprocessing: `upstream` or `rela-reference`.

    Returns:
        The identity; None where the entry does not say it: weights without a known hash, untrained networks (whose
        weights are known once they are built), and networks of the user's own code.

    Example:
        >>> from rela_zoo import load_prior, prior_spec
        >>> spec = prior_spec("cifar10-resnet20")
        >>> prior_identity(spec) == load_prior(spec).identity()
        True
    """
    if not spec.has_weights or not spec.pinned or spec.dim is None or spec.preprocessing is None:
        return None
    assert spec.sha256 is not None
    chosen = spec.preprocessing if preprocessing == UPSTREAM else reference_preprocessing(spec.preprocessing)
    return identity_of(spec, spec.dim, preprocessing, ImageTransform(chosen), spec.revision, spec.sha256)
