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


def local_rank() -> int:
    """Number of this process on its machine, by what launched it; 0 by itself."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    return 0


def part_of_environment() -> tuple[int, int] | None:
    """Which part (i, n) of a job this process is, i from 1: by SLURM's job arrays, torchrun or Ray, `srun`; or None.

    Examples:
        >>> import os
        >>> os.environ.update(SLURM_ARRAY_TASK_ID="6", SLURM_ARRAY_TASK_MIN="4", SLURM_ARRAY_TASK_COUNT="8")
        >>> part_of_environment()
        (3, 8)
        >>> for name in ("ID", "MIN", "COUNT"):
        ...     del os.environ[f"SLURM_ARRAY_TASK_{name}"]
    """

    def number(name: str) -> int | None:
        value = os.environ.get(name, "")
        return int(value) if value.isdecimal() else None

    first, step = number("SLURM_ARRAY_TASK_MIN") or 0, number("SLURM_ARRAY_TASK_STEP") or 1
    for which, count, start, stride in (
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", first, step),
        ("RANK", "WORLD_SIZE", 0, 1),
        ("SLURM_PROCID", "SLURM_NTASKS", 0, 1),
    ):
        here, of = number(which), number(count)
        if here is not None and of:
            return (here - start) // stride + 1, of
    return None


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
