"""From an entry to a network that maps images to features, with or without weights."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo.errors import RegistryError, UnknownPriorError, WeightsError
from rela_zoo.networks.cifar_resnet import CifarResNet, with_cifar_stem
from rela_zoo.registry import Preprocessing, PriorSpec

_COUNTER = "num_batches_tracked"


def build(spec: PriorSpec, device: str = "cpu") -> nn.Module:
    """The network of an entry of family timm or cifar-resnet, freshly initialised, giving features (B, dim).

    Args:
        spec: the entry.
        device: `meta` builds shapes only, in milliseconds.

    Raises:
        RegistryError: if timm does not know the architecture or refuses the entry's arguments.
    """
    with torch.device(device):
        if spec.family == "cifar-resnet":
            return CifarResNet(int(spec.architecture.removeprefix("resnet"))).eval()
        network = _timm(spec)
        if spec.stem == "cifar":
            try:
                with_cifar_stem(network, padding=spec.stem_padding)
            except (TypeError, AttributeError) as error:
                raise RegistryError(
                    f"prior {spec.id!r} can't have a CIFAR stem",
                    expected="a ResNet with `conv1` and `maxpool` as architecture",
                    got=spec.architecture,
                ) from error
    return network.eval()


def _timm(spec: PriorSpec) -> nn.Module:
    import timm

    if not timm.is_model(spec.architecture):
        near = difflib.get_close_matches(spec.architecture, timm.list_models(), n=3)
        raise UnknownPriorError(
            f"timm {timm.__version__} has no architecture {spec.architecture!r}",
            expected="a name from timm.list_models(), without tag",
            got=spec.architecture,
            fix=f"did you mean {', '.join(near)}?" if near else None,
        )
    # The image projection of a CLIP tower is timm's classifier; without one, timm gives the pooled features.
    classes = spec.dim if spec.layer == "projection" else 0
    try:
        return timm.create_model(spec.architecture, pretrained=False, num_classes=classes, **spec.model_args)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RegistryError(
            f"timm can't build the architecture of {spec.id!r}",
            expected=f"arguments that {spec.architecture} takes",
            got=f"{dict(spec.model_args)}: {error}",
        ) from error


def _config(network: nn.Module) -> Mapping[str, Any]:
    """timm's own facts about a network it built."""
    config: Any = network.pretrained_cfg
    return dict(config)


def timm_preprocessing(network: nn.Module) -> Preprocessing:
    """What timm's configuration of a network says about its input."""
    config = _config(network)
    size = int(config["input_size"][-1])
    return Preprocessing(
        input_size=size,
        resize=math.floor(size / config.get("crop_pct", 1.0)),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


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
    state = _without_head(spec, network, _in_timm_layout(network, state))
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
        network: built on `meta`, so that no initialisation is computed in vain.

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


def _in_timm_layout(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's own conversion of checkpoints (whole CLIP, other position grids), which timm keeps beside the network."""
    module = sys.modules[type(network).__module__]
    convert: Callable[..., dict[str, Tensor]] | None = getattr(module, "checkpoint_filter_fn", None)
    if convert is None or not module.__name__.startswith("timm."):
        return dict(state)
    if len(inspect.signature(convert).parameters) < 2:
        return dict(state)
    return dict(convert(state, network))


def _without_head(spec: PriorSpec, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the classifier, unless it is the projection that is wanted."""
    if spec.layer == "projection":
        return state
    if spec.family == "cifar-resnet":
        heads: tuple[str, ...] = ("linear",)
    else:
        named = _config(network).get("classifier") or ()
        heads = (named,) if isinstance(named, str) else tuple(named)
    return {key: value for key, value in state.items() if not key.startswith(tuple(f"{head}." for head in heads))}


def untrained(spec: PriorSpec) -> nn.Module:
    """The network of a `random` entry, initialised from its seed alone; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every GPU.
        torch.random.default_generator.manual_seed(spec.seed)
        network = build(spec)
    return _revive(network)


def _revive(network: nn.Module) -> nn.Module:
    """Give residual branches that start at zero a share in an untrained network.

    timm sets the last normalisation of each residual branch to zero. Training undoes that; in a network that is never
    trained the blocks would compute nothing (digits, k-NN on `random`: 61 % instead of 94 %). They get 1, the plain
    initialisation, and less in networks of more than 8 blocks, so that the variance of the sum grows by a factor of
    (1 + 8/n)^n < e^8 at most and features stay within float16.
    """
    dead = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not bool(module.weight.any())
    ]
    for weight in dead:
        nn.init.constant_(weight, min(1.0, math.sqrt(8 / len(dead))))
    return network


class _Scaled(nn.Module):
    """A network whose features are multiplied by a fixed factor."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("factor", torch.tensor(factor))
        self.factor: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x) * self.factor
        return out


@torch.no_grad()
def within_float16(network: nn.Module, input_size: int) -> nn.Module:
    """Bring the features of an untrained network into the range where float16 has its full precision.

    Some untrained networks shrink their input by many orders of magnitude (EfficientNet-B0's features are about 1e-5),
    and embeddings are stored as float16. A power of two changes no digit; networks near 1 are returned as they are.

    Args:
        network: giving (B, D).
        input_size: side of its input, pixels.
    """
    generator = torch.Generator().manual_seed(0)
    out = network(torch.randn(2, 3, input_size, input_size, generator=generator))
    size = float(out.double().pow(2).mean().sqrt())
    if not math.isfinite(size) or size == 0 or 2**-7 <= size <= 2**7:
        return network
    return _Scaled(network, 2.0 ** -round(math.log2(size))).eval()


def from_callable(spec: PriorSpec) -> nn.Module:
    """Call the user's `module:callable`, which takes nothing and returns a network (B, 3, H, W) → (B, D).

    The module is imported by name, or is a file `module.py` beside the entry.

    Raises:
        RegistryError: if there is no such module or callable, or it returns something else.
    """
    module_name, _, attribute = spec.architecture.partition(":")
    module = _user_module(spec, module_name)
    maker: Any = getattr(module, attribute, None)
    if not callable(maker):
        raise RegistryError(
            f"prior {spec.id!r} names no callable", expected=f"a callable {attribute} in {module_name}", got=repr(maker)
        )
    network = maker()
    if not isinstance(network, nn.Module):
        raise RegistryError(
            f"{spec.architecture} of prior {spec.id!r} gives no network",
            expected="a torch.nn.Module",
            got=type(network).__name__,
        )
    return network.eval()


def _user_module(spec: PriorSpec, name: str) -> Any:
    beside = spec.folder / f"{name}.py" if spec.folder is not None and "." not in name else None
    if beside is not None and beside.is_file():
        found = importlib.util.spec_from_file_location(f"_rela_zoo_user_{name}", beside)
        assert found is not None  # always so for a .py file
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not name.startswith(error.name):
            raise
        raise RegistryError(
            f"the module of prior {spec.id!r} is not importable",
            expected=f"a module {name!r} on the Python path" + (f", or a file {beside}" if beside else ""),
            got=str(error),
        ) from error
