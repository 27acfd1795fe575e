"""What bare solo-learn can't resume, mended in the hooks of the wrapper.

Seen at 9187ea39: swav's queue and deepclusterv2's memory are made when training starts, so that a fresh module has no
place for those of a checkpoint, and would empty them again; all4one's checkpoint holds a table that is computed anew;
simsiam's and nnsiam's schedulers hold a function, which a restricted loader refuses.
"""

from __future__ import annotations

from typing import Any

import torch

from rela_zoo.hosts.protocols import HostModule

# Buffers that are made in `on_train_start`. They are of one process: with several, each goes on with the first one's.
_LATE = ("queue", "local_memory_index", "local_memory_embeddings")
_COMPUTED = "cached_penc"
_KEPT = "_rela_late_buffers"


def mend_saved(checkpoint: dict[str, Any]) -> None:
    """Take out of a checkpoint what is computed anew, and what is no data."""
    weights = checkpoint["state_dict"]
    for key in [key for key in weights if key.rpartition(".")[2] == _COMPUTED]:
        del weights[key]
    for scheduler in checkpoint.get("lr_schedulers", []):
        if callable(scheduler.get("get_lr")):
            del scheduler["get_lr"]


def mend_loaded(module: HostModule, checkpoint: dict[str, Any]) -> None:
    """Give a module the buffers that a checkpoint has, and keep their values for when training has started."""
    weights = checkpoint["state_dict"]
    own = module.state_dict().keys()
    for key in [key for key in weights if key.rpartition(".")[2] == _COMPUTED and key not in own]:
        del weights[key]
    late = {name: weights[name] for name in _LATE if name in weights and name not in own}
    for name, value in late.items():
        module.register_buffer(name, torch.empty_like(value, device=module.device))
    module.__dict__[_KEPT] = {name: value.clone() for name, value in late.items()}


def mend_started(module: HostModule) -> None:
    """Fill the buffers that the method has made anew; once."""
    for name, value in module.__dict__.pop(_KEPT, {}).items():
        buffer = getattr(module, name)
        if buffer.shape == value.shape:
            buffer.copy_(value)
