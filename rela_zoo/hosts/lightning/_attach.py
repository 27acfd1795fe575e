"""What a run puts on a module, its data module and its optimisers while it trains, and how it comes off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

# What torch's schedulers keep for each group, in lists.
_ONE_A_GROUP = ("base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "max_lrs", "base_momentums", "max_momentums")


class Attachments:
    """Attributes that objects have for the time of a run."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of this object alone; `release` takes it off, or puts back what this object had."""
        kept = vars(owner)
        if name in kept:
            self._undo.append(lambda before=kept[name]: setattr(owner, name, before))  # type: ignore[misc]
        else:
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def later(self, undo: Callable[[], None]) -> None:
        """Have this done by `release`."""
        self._undo.append(undo)

    def release(self) -> None:
        """Leave every object as it was."""
        while self._undo:
            self._undo.pop()()


class HeadParameters(nn.Module):
    """The parameters of a head as part of a module, and no part of its state dict.

    So they are on the module's device, in its precision, in its optimiser and in DDP's buckets; and what it saves can
    be loaded by a module that has never heard of a head.

    Args:
        head: owns the parameters.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        for name, parameter in head.named_parameters():
            # A head of several parts has names with a dot, which no parameter may have.
            self.register_parameter(name.replace(".", "_"), parameter)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass


def is_trained(module: nn.Module, optimizers: Sequence[Optimizer]) -> bool:
    """Whether optimisers have all parameters of a module."""
    known = {id(one) for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]}
    return known >= {id(one) for one in module.parameters()}


def train_as_well(optimizer: Optimizer, schedulers: Sequence[Any], head: nn.Module, name: str) -> None:
    """Let an optimiser train a head too, with the settings and the schedule of its first group.

    Args:
        optimizer: before its state is restored.
        schedulers: of the run; those of other optimisers are left alone.
        head: whose parameters are in no group yet.
        name: of the group, where groups have names, and of the head, where parameters have.
    """
    first = optimizer.param_groups[0]
    group = {key: value for key, value in first.items() if key not in ("params", "param_names")}
    if "name" in group:
        group["name"] = name
    named = [(f"{name}.{key}", parameter) for key, parameter in head.named_parameters()]
    optimizer.add_param_group({**group, "params": named if "param_names" in first else [one for _, one in named]})
    for scheduler in schedulers:
        if getattr(scheduler, "optimizer", None) is optimizer:
            _follow(scheduler, len(optimizer.param_groups))


def _follow(scheduler: Any, groups: int) -> None:
    """Give a scheduler, and those it is made of, the values of its first group for the last one too."""
    for part in getattr(scheduler, "_schedulers", []):
        _follow(part, groups)
    for key in _ONE_A_GROUP:
        values = getattr(scheduler, key, None)
        if isinstance(values, list) and len(values) == groups - 1:
            values.append(values[0])
