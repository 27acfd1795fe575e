"""From an entry to a network that maps images to features, with or without weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from rela_zoo.errors import RegistryError, WeightsError
from rela_zoo.prior.families import family_of
from rela_zoo.prior.families.timm import timm_preprocessing
from rela_zoo.registry import PriorSpec

__all__ = ["align", "build", "feature_dim", "load_into", "timm_preprocessing"]

_COUNTER = "num_batches_tracked"


def build(spec: PriorSpec, device: str = "cpu") -> nn.Module:
    """The network of an entry as its family builds it, giving features (B, dim), in evaluation mode.

    Args:
        spec: the entry.
        device: `meta` builds shapes only, in milliseconds.

    Raises:
        RegistryError: if nobody builds this family, or the family does not know the architecture or refuses the
            entry's arguments.
        PluginError: another package provides the family, and is broken.
    """
    with torch.device(device):
        return family_of(spec).build(spec).eval()


@torch.no_grad()
def feature_dim(network: nn.Module, input_size: int, device: str = "cpu") -> int:
    """Features of one image: runs `network` on a black image (1, 3, S, S), which costs nothing on `meta`.

    Raises:
        RegistryError: if the network does not give (1, D).
    """
    out = network(torch.zeros(1, 3, input_size, input_size, device=device))
    if not isinstance(out, Tensor) or out.ndim != 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise RegistryError(
            "a prior must give one row of features an image", expected="a tensor of shape (batch, features)", got=shape
        )
    return int(out.shape[1])


def align(spec: PriorSpec, network: nn.Module, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Bring the tensors of a file under the names of a network: every tensor has its place, every place its tensor.

    Two things may differ: the classifier of the file is dropped, and BatchNorm's counters of batches, which evaluation
    never reads, may be absent.

    Args:
        spec: the entry, for messages and for the layer wanted.
        network: of the entry; only names and shapes matter.
        state: from `read_weights`.
        path: of the file, for messages.

    Returns:
        the state dict of `network`, complete.

    Raises:
        WeightsError: naming what is missing, left over, or of another shape.
    """
    family = family_of(spec)
    state = dict(family.to_own_names(network, dict(state)))
    # What is a head elsewhere is the layer wanted where that is the projection.
    heads = () if spec.layer == "projection" else tuple(f"{head}." for head in family.heads(spec, network))
    state = {key: value for key, value in state.items() if not key.startswith(heads)}
    wanted = network.state_dict()
    for key, value in wanted.items():
        if key.endswith(_COUNTER) and key not in state:
            state[key] = torch.zeros(value.shape, dtype=value.dtype)
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    if missing or extra or shapes:
        raise WeightsError(
            f"{path} does not hold the weights of {spec.architecture} that {spec.id!r} needs",
            expected=f"{len(wanted)} tensors of {spec.architecture}"
            + (" with CIFAR stem" if spec.stem == "cifar" else ""),
            got="; ".join(
                f"{len(found)} {what}: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}"
                for what, found in (("missing", missing), ("left over", extra), ("of another shape", shapes))
                if found
            ),
            fix="rename the tensors to the network's own names" if missing and extra else None,
        )
    return state


def load_into(spec: PriorSpec, network: nn.Module, state: dict[str, Tensor], path: Path) -> nn.Module:
    """Load weights strictly, as `align` says.

    Args:
        network: best built on `meta`, so that no initialisation is computed in vain.

    Returns:
        the network on the CPU, with these weights.

    Raises:
        WeightsError: if they don't fit.
    """
    state = align(spec, network, state, path)
    persistent = network.state_dict().keys()
    if any(key not in persistent for key, _ in network.named_buffers()):
        # Buffers that no file holds (tables computed by the constructor) have no values on `meta`.
        network = build(spec)
        network.load_state_dict(state, strict=True)
        return network
    network.load_state_dict(state, strict=True, assign=True)
    return network
