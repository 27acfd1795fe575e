"""Which process of a job this is, and what its processes tell each other: one answer for all rooms.

A process group that stands decides; before there is one, the variables that launchers set (torchrun, Lightning, SLURM).
"""

from __future__ import annotations

import os
import sys
from typing import Any, TypeVar

Value = TypeVar("Value")

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def _group() -> Any | None:
    """`torch.distributed` with a process group of more than one process, else None. Never imports torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    return distributed


def rank() -> int:
    """Number of this process, 0, 1, …"""
    group = _group()
    if group is not None:
        return int(group.get_rank())
    for variable in _RANK_VARIABLES:
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    return 0


def world_size() -> int:
    """Number of processes in the process group; 1 without one."""
    group = _group()
    return int(group.get_world_size()) if group is not None else 1


def is_first() -> bool:
    """Whether this process speaks for the job, and makes what all of it needs."""
    return rank() == 0


def broadcast(value: Value) -> Value:
    """The first process's value (a small picklable object) on every process; called on all of them."""
    group = _group()
    if group is None:
        return value
    box = [value]
    group.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Value) -> list[Value]:
    """The value (a small picklable object) of every process, in the order of their numbers; called on all of them."""
    group = _group()
    if group is None:
        return [value]
    box: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(box, value)
    return box


def sum_over_ranks(tensor: Any) -> Any:
    """A tensor of each process → a new one, their sum; called on all of them."""
    group = _group()
    total = tensor.clone()
    if group is not None:
        group.all_reduce(total, op=group.ReduceOp.SUM)
    return total


def mean_over_ranks(tensor: Any) -> Any:
    """A floating-point tensor of each process → a new one, their mean; called on all of them."""
    return sum_over_ranks(tensor) / world_size()
