"""The one call that puts the accelerated stage in front of a module's own forward."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rela_zoo.errors import RelaZooError
from rela_zoo.hosts.lightning import RelaCallback
from rela_zoo.hosts.stable_pretraining._features import Features
from rela_zoo.hosts.stable_pretraining.callback import SptCallback


def accelerate(
    module: Any,
    rela: Mapping[str, Any],
    *,
    features: str | Callable[[Any, Tensor], Tensor] = "backbone",
    features_dim: int | None = None,
    image: str = "image",
    embedding: str = "embedding",
    source: Any = None,
    seed: int = 0,
) -> Any:
    """Train a `stable_pretraining.Module` by a `rela` section: accelerated stage first, subsets throughout.

    In the accelerated stage only the backbone runs, on the (milder) large views, with the accelerated loss. The module
    returns what probes, queues and k-NN read: the embedding (the teacher's, where the backbone is a
    `TeacherStudentWrapper` and there are any of them), the labels and the other entries of the views. Teachers go on
    being updated. After the handover, and in validation throughout, the module's own forward runs, unmodified; it
    counts epochs from the handover.

    Call it before callbacks are made of the module (`OnlineProbe(module, …)`), which wrap its forward in theirs. Its
    `RelaCallback` comes into the trainer by itself; checkpoints hold its state.

    Args:
        module: with any forward of `(self, batch, stage)`.
        rela: keys of the `rela` section, documented in `rela_zoo/conf/rela/default.yaml`.
        features: name of the backbone (dotted for one further in), or how features are made: of the module and images
            (B, C, H, W), to (B, m) with gradient.
        features_dim: their width m; None looks at two samples.
        image: key of the images in samples and views.
        embedding: under which key the module's own forward returns its embedding.
        source: the training images in the data set's order, where the data set itself can't be read: whatever
            `image_source` takes.
        seed: of subsets, views and head.

    Returns:
        The module.

    Raises:
        ConfigError: mistakes in `rela`.
        RelaZooError: callbacks have wrapped the module already.

    Examples:
        module = spt.Module(forward=stable_pretraining.forward.simclr, backbone=…, projector=…, …)
        accelerate(module, rela={"prior": "clip-vit-b16", "data_ratio": 0.2})
    """
    if "configure_model" in vars(module) or isinstance(getattr(module.forward, "accelerated_by", None), RelaCallback):
        raise RelaZooError(
            "accelerate comes too late: the forward of this module is wrapped already",
            expected="a module as it was made",
            got="one that callbacks (OnlineProbe, …) have wrapped, or that is accelerated",
            fix="call accelerate right after spt.Module(…), and make the callbacks of what it returns",
        )
    callback = SptCallback(
        rela,
        forward=module.forward.__func__,
        features=Features(features),
        keys=(image, embedding),
        features_dim=features_dim,
        source=source,
        seed=seed,
    )

    def forward(self: Any, batch: Any, stage: str) -> Any:
        return callback.forward(self, batch, stage)

    own_callbacks = module.configure_callbacks

    def configure_callbacks(self: Any) -> list[Any]:
        own = own_callbacks() or []
        return [*(own if isinstance(own, list | tuple) else [own]), callback]

    forward.accelerated_by = callback  # type: ignore[attr-defined]
    module.forward = types.MethodType(forward, module)
    module.configure_callbacks = types.MethodType(configure_callbacks, module)
    return module
