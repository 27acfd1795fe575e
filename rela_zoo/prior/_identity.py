"""What a prior is, told from its entry alone where the entry says which bytes are meant."""

from __future__ import annotations

from rela_zoo.prior._load import architecture_of, identity_of
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

    Examples:
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


def entry_identity(spec: PriorSpec, preprocessing: str = UPSTREAM) -> dict[str, str | int]:
    """What an entry says of the identity, for `identity_differences`: all of it, or less.

    Less for weights without a known hash, for untrained networks, and for networks of somebody's own code, whose rows
    know their weights by another digest.

    Args:
        spec: the entry.
        preprocessing: `upstream` or `rela-reference`.
    """
    whole = prior_identity(spec, preprocessing)
    if whole is not None and spec.family != "external":
        return whole
    found: dict[str, str | int] = {"id": spec.id, "layer": spec.layer, "preprocessing": preprocessing}
    if spec.family not in ("external", "callable"):
        found["architecture"] = architecture_of(spec)
        if spec.sha256 is not None:
            found["weights_sha256"] = spec.sha256
    if spec.dim is not None:
        found["dim"] = spec.dim
    if spec.preprocessing is not None:
        chosen = spec.preprocessing if preprocessing == UPSTREAM else reference_preprocessing(spec.preprocessing)
        found["preprocessing_digest"] = ImageTransform(chosen).digest()
    return found
