"""A prior by name: weights found and checked, network built, frozen, with its own preprocessing."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo.errors import RegistryError, WeightsError
from rela_zoo.prior._build import build, feature_dim, load_into
from rela_zoo.prior._preprocessing import PREPROCESSINGS, UPSTREAM, ImageTransform, reference_preprocessing
from rela_zoo.prior._untrained import untrained, within_float16
from rela_zoo.prior._weights import UnpinnedWeightsWarning, find_weights, read_weights, state_digest, verify_sha256
from rela_zoo.prior.families import family_of
from rela_zoo.registry import PriorSpec, moves, prior_spec

_log = logging.getLogger(__name__)


class Prior(nn.Module):
    """A frozen network that turns images into embeddings. Made by `load_prior`.

    It is always in evaluation mode, takes no gradient, and computes in float32 whatever autocast says, so that the same
    image gives the same row wherever the prior is used.

    Attributes:
        spec: the registry entry, with `dim` and `preprocessing` filled in.
        dim: D, features an image.
        transform: PIL image → float32 tensor (3, H, W); picklable.
        preprocessing: name of that transform, `upstream` or `rela-reference`.
        computes_in: None for float32, or a dtype for autocast; set by `embed` while it runs in another precision.

    Examples:
        >>> from PIL import Image
        >>> from rela_zoo import load_prior
        >>> prior = load_prior("cifar10-resnet20")
        >>> image = prior.transform(Image.open("photos/cat/000.png"))
        >>> prior(image[None]).shape
        torch.Size([1, 64])
    """

    def __init__(
        self,
        network: nn.Module,
        spec: PriorSpec,
        transform: ImageTransform,
        preprocessing: str,
        revision: str | None,
        weights_sha256: str,
    ) -> None:
        super().__init__()
        if spec.dim is None:
            raise ValueError("expected an entry with `dim`")
        # Convolutions of float32 on a CPU are up to 1.7 times as fast so.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.spec, self.dim = spec, spec.dim
        self.transform, self.preprocessing = transform, preprocessing
        self.computes_in: torch.dtype | None = None
        self._revision, self._weights_sha256 = revision, weights_sha256
        super().train(False)

    def train(self, mode: bool = True) -> Prior:
        """Nothing: a prior stays in evaluation mode, also inside a module that trains."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            x: (B, 3, H, W) floating point, prepared by `transform`.

        Returns:
            (B, dim) float32, raw (not L2-normalised), without gradient.

        Raises:
            ValueError: if `x` is no such batch.
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(f"expected a floating-point batch (B, 3, H, W), got {tuple(x.shape)} of {x.dtype}")
        lower = self.computes_in is not None
        with torch.no_grad(), torch.autocast(x.device.type, dtype=self.computes_in, enabled=lower):
            out: Tensor = self.network(x.to(torch.float32)).to(torch.float32)
        if out.shape != (len(x), self.dim):
            raise ValueError(f"expected features {(len(x), self.dim)} from {self.spec.id}, got {tuple(out.shape)}")
        return out

    def identity(self) -> dict[str, str | int]:
        """Everything that changes the numbers this prior gives; part of the key of every artefact made with it."""
        return identity_of(
            self.spec, self.dim, self.preprocessing, self.transform, self._revision, self._weights_sha256
        )

    def extra_repr(self) -> str:
        return f"id={self.spec.id!r}, dim={self.dim}, preprocessing={self.preprocessing!r}"


def identity_of(
    spec: PriorSpec, dim: int, preprocessing: str, transform: ImageTransform, revision: str | None, weights_sha256: str
) -> dict[str, str | int]:
    """The identity of a prior from its parts; equal for equal numbers."""
    found: dict[str, str | int] = {
        "id": spec.id,
        "revision": revision or "",
        "weights_sha256": weights_sha256,
        "architecture": architecture_of(spec),
        "layer": spec.layer,
        "dim": dim,
        "preprocessing": preprocessing,
        "preprocessing_digest": transform.digest(),
    }
    if spec.source == "random":
        found["seed"] = spec.seed
    return found


def architecture_of(spec: PriorSpec) -> str:
    """Family, architecture and whatever alters it, in one string."""
    changes = [f"{key}={spec.model_args[key]}" for key in sorted(spec.model_args)]
    if spec.stem == "cifar":
        changes.append(f"stem=cifar/{spec.stem_padding}")
    return f"{spec.family}/{spec.architecture}" + (f"({','.join(changes)})" if changes else "")


def load_prior(
    name_or_spec: str | os.PathLike[str] | PriorSpec,
    *,
    preprocessing: str = UPSTREAM,
    strict: bool = False,
    device: str | torch.device = "cpu",
) -> Prior:
    """Load a prior, frozen and in evaluation mode, with its preprocessing attached.

    Args:
        name_or_spec: whatever `prior_spec` takes, or an entry.
        preprocessing: `upstream`, the authors' own, or `rela-reference`, ImageNet mean and deviation at the input size.
        strict: refuse an entry that does not pin its weights (hash and, on the Hub, full commit), instead of warning.
        device: where the prior is put.

    Returns:
        the prior; its `spec` has `dim` and `preprocessing` filled in.

    Raises:
        UnknownPriorError: if nothing has this name.
        RegistryError: if the entry is malformed, of a family that nobody builds, or does not fit its network.
        PluginError: if another package provides the family, and is broken.
        WeightsError: if the weights are out of reach, unsafe, damaged, or not those of the entry.

    Examples:
        >>> from rela_zoo import load_prior
        >>> load_prior("cifar10-resnet20").dim
        64
    """
    spec = name_or_spec if isinstance(name_or_spec, PriorSpec) else prior_spec(name_or_spec)
    if preprocessing not in PREPROCESSINGS:
        raise RegistryError(
            "there is no such preprocessing", expected=" or ".join(PREPROCESSINGS), got=repr(preprocessing)
        )
    if strict and not isinstance(name_or_spec, PriorSpec) and moves(os.fspath(name_or_spec)):
        raise WeightsError(
            f"prior {os.fspath(name_or_spec)!r} is refused: it says no commit, so nothing says which weights are meant",
            expected="a name with a full commit", got=os.fspath(name_or_spec), fix=f"{spec.id}@{spec.revision}",
        )  # fmt: skip
    if strict and not spec.pinned:
        raise WeightsError(
            f"prior {spec.id!r} is refused: {_unpinned(spec)}",
            expected="an entry that pins its weights",
            got=f"revision {spec.revision or 'unknown'}, sha256 {spec.sha256 or 'unknown'}",
            fix="drop `strict`, or write an entry of your own with the revision and the hash you checked",
        )
    # Before anything is fetched.
    family, revision = family_of(spec), None
    if spec.source == "random":
        network = untrained(spec)
        spec = _filled(spec, network)
        network = within_float16(network, _input_size(spec))
        sha256 = state_digest(network.state_dict())
    elif spec.source == "callable":
        network = own_network(spec)
        spec, sha256 = _filled(spec, network), state_digest(network.state_dict())
    else:
        weights = find_weights(spec)
        sha256, revision = verify_sha256(spec, weights.path), weights.revision
        if not spec.pinned:
            warnings.warn(
                f"{_unpinned(spec)}; loaded {weights.path}, revision {revision or 'unknown'}, sha256 {sha256}",
                UnpinnedWeightsWarning,
                stacklevel=2,
            )
        elif spec.pin == "third-party":
            _log.info("weights of %s agree with the third-party record of their hash", spec.id)
        place = "meta" if family.on_meta else "cpu"
        network = build(spec, place)
        _filled(spec, network, place)
        network = load_into(spec, network, read_weights(weights.path), weights.path)
    assert spec.preprocessing is not None  # demanded of every entry, or filled in
    chosen = spec.preprocessing if preprocessing == UPSTREAM else reference_preprocessing(spec.preprocessing)
    return Prior(network, spec, ImageTransform(chosen), preprocessing, revision, sha256).to(device)


def own_network(spec: PriorSpec) -> nn.Module:
    """The network of an entry of somebody's own code, with the weights of the file that the entry names, if it does.

    Raises:
        RegistryError: the code gives no network.
        WeightsError: the file is out of reach, unsafe, or does not fit exactly.
    """
    network = build(spec)
    if spec.file is not None:
        path = find_weights(spec).path
        verify_sha256(spec, path)
        load_exactly(network, path)
    return network


def load_exactly(network: nn.Module, path: Path) -> None:
    """Load all tensors of a file into a network that has exactly these.

    Raises:
        WeightsError: unsafe, damaged, or with other tensors.
    """
    try:
        network.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not hold the weights of this network", expected="exactly its tensors", got=str(error)
        ) from error


def _input_size(spec: PriorSpec) -> int:
    assert spec.preprocessing is not None  # demanded of every entry, or filled in
    return spec.preprocessing.input_size


def _unpinned(spec: PriorSpec) -> str:
    missing = [
        *(["hash"] if spec.sha256 is None else []),
        *(["full commit"] if spec.source in ("timm", "hub") and spec.revision is None else []),
    ]
    return f"the entry of {spec.id!r} has no known {' and no '.join(missing)}, so nothing says which weights are meant"


def _filled(spec: PriorSpec, network: nn.Module, device: str = "cpu") -> PriorSpec:
    """The entry with `preprocessing` and `dim` as the network has them.

    Raises:
        RegistryError: if the entry claims another `dim`.
    """
    update: dict[str, Any] = {}
    if spec.preprocessing is None:
        update["preprocessing"] = family_of(spec).preprocessing(spec, network)
    size = (spec.preprocessing or update["preprocessing"]).input_size
    try:
        dim = feature_dim(network, size, device)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise RegistryError(
            f"the network of {spec.id!r} can't take its input",
            expected=f"a network for images of {size}×{size}",
            got=" ".join(str(error).split()),
        ) from error
    if spec.dim not in (None, dim):
        raise RegistryError(
            f"the entry of {spec.id!r} does not fit its network", expected=f"dim: {dim}", got=f"dim: {spec.dim}"
        )
    if spec.dim is None:
        update["dim"] = dim
    return spec.model_copy(update=update) if update else spec
