"""The backbone of a checkpoint as a file for other programs: safetensors by timm's, torchvision's or its own names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rela_zoo._io.files import atomic_path
from rela_zoo._version import __version__
from rela_zoo.errors import RelaZooError, WeightsError
from rela_zoo.networks.names import RESNETS
from rela_zoo.prior.trained_backbone import Backbone, read_backbone

FORMATS = ("timm", "torchvision", "safetensors")
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """A backbone written for other programs.

    Attributes:
        path: of the file.
        tensors: how many it holds.
        metadata: of the file, by key; values that are no text are JSON.
        code: lines of Python that load it, with neither rela_zoo nor the checkpoint; they leave a `network`.
        notes: what else the other program has to do.
    """

    path: Path
    tensors: int
    metadata: dict[str, str]
    code: tuple[str, ...]
    notes: tuple[str, ...]


def export_backbone(checkpoint: Path, format: str, out: Path) -> Exported:
    """Write the student's backbone of a checkpoint, of the built-in host or of solo-learn, as safetensors.

    Before anything is written the network that `code` builds is given the weights, strictly, and has to compute the
    same as the one that was trained.

    Args:
        checkpoint: of a run; read without unpickling objects.
        format: whose names the tensors have: `timm`, `torchvision` (ResNets only), or `safetensors`, the names that
            they had in training.
        out: *.safetensors; replaced if it is there.

    Raises:
        RelaZooError: no such format, or a file of another ending.
        WeightsError: no checkpoint, a network that can't be rebuilt or that the format does not know, or no room.
    """
    if format not in FORMATS:
        raise RelaZooError(
            "there is no such format", expected=", ".join(FORMATS), got=repr(format), fix="name one of these"
        )
    if out.suffix != _SUFFIX:
        raise RelaZooError(
            f"--out {out} does not end in {_SUFFIX}", expected="a safetensors file, whatever the format: it says whose "
            "names the tensors have", got=out.suffix or "no ending", fix=f"--out {out.with_suffix(_SUFFIX)}",
        )  # fmt: skip
    backbone = read_backbone(checkpoint)
    name = backbone.fields["architecture"]
    if format == "torchvision" and name not in RESNETS:
        raise WeightsError(
            f"torchvision has no network with the weights of {checkpoint}", expected=" or ".join(RESNETS), got=name,
            fix="--format timm",
        )  # fmt: skip
    library = format if format != "safetensors" else "torchvision" if name in RESNETS else "timm"
    _prove(checkpoint, backbone, library)
    state = {key: value.contiguous().clone() for key, value in sorted(backbone.network.state_dict().items())}
    metadata = _metadata(backbone, format)
    _write(out, state, metadata)
    return Exported(out, len(state), metadata, _code(backbone, library, out), _notes(backbone, library))


def _metadata(backbone: Backbone, format: str) -> dict[str, str]:
    """Facts as text, which is all that the header of safetensors takes."""
    facts = {
        "format": "pt",  # by which transformers and others know tensors of PyTorch
        "names": format,
        **backbone.fields,
        **backbone.training,
        **backbone.preprocessing,
        "rela_zoo_version": __version__,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def _write(out: Path, state: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(out) as temporary:
            save_file(dict(state), temporary, metadata=metadata)
    except SafetensorError as error:
        raise WeightsError(
            f"the weights can't be written to {out}", expected="room for them", got=error,
            fix="free some space, or name a place on another disk",
        ) from error  # fmt: skip


def _rebuilt(backbone: Backbone, library: str) -> nn.Module:
    """The network that `_code` builds, with random weights."""
    name, arguments = backbone.fields["architecture"], backbone.fields["model_args"]
    if library == "torchvision":
        from torchvision.models import resnet

        network: nn.Module = getattr(resnet, name)()
        network.fc = nn.Identity()
    else:
        import timm

        network = timm.create_model(name, num_classes=0, **arguments)
    if "stem" in backbone.fields:
        padding = backbone.fields["stem_padding"]
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=padding, bias=False)
        network.maxpool = nn.Identity()
    return network.eval()


@torch.no_grad()
def _prove(checkpoint: Path, backbone: Backbone, library: str) -> None:
    """See that the other library's network takes the weights strictly, and computes the same."""
    size = backbone.preprocessing.get("input_size") or backbone.fields["model_args"].get("img_size") or 224
    network = _rebuilt(backbone, library)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted, got = backbone.network(images), "another network"
    try:
        network.load_state_dict(backbone.network.state_dict(), strict=True)
        found = network(images)
        if found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            return
        got = "other features for the same images"
    except RuntimeError as error:
        got = " ".join(str(error).split())[:300]
    raise WeightsError(
        f"{library}'s {backbone.fields['architecture']} is not the network of {checkpoint}",
        expected="the same tensors, and the same features for the same images", got=got,
        fix=f"use another version of {library}, or --format safetensors",
    )  # fmt: skip


def _code(backbone: Backbone, library: str, out: Path) -> tuple[str, ...]:
    name, arguments = backbone.fields["architecture"], backbone.fields["model_args"]
    if library == "torchvision":
        lines = ["import torch, torchvision", f"network = torchvision.models.{name}()"]
        lines += ["network.fc = torch.nn.Identity()  # features, no classifier"]
    else:
        more = "".join(f", {key}={value!r}" for key, value in arguments.items())
        lines = ["import timm, torch", f"network = timm.create_model({name!r}, num_classes=0{more})"]
    if "stem" in backbone.fields:
        padding = backbone.fields["stem_padding"]
        lines += [
            f"network.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding={padding}, bias=False)",
            "network.maxpool = torch.nn.Identity()",
        ]
    lines += ["from safetensors.torch import load_file", f"network.load_state_dict(load_file({str(out)!r}))"]
    return tuple(lines)


def _notes(backbone: Backbone, library: str) -> tuple[str, ...]:
    known, notes = backbone.preprocessing, []
    if "stem" in backbone.fields:
        notes.append(
            f"this network has the stem for small images (3×3, no max-pooling); {library}'s own is another, so "
            "conv1 and maxpool have to be replaced as above before the weights are loaded"
        )
    size = f" {known['input_size']} pixels wide," if "input_size" in known else ""
    notes.append(f"images were RGB in [0, 1],{size} normalised by mean {known['mean']} and deviation {known['std']}")
    return tuple(notes)
