"""How many images at once, and how many processes that decode them: chosen from cores and memory."""

from __future__ import annotations

import math
import multiprocessing
from typing import Any

import torch

from rela_zoo._io.resources import free_memory, free_shared_memory, usable_cores
from rela_zoo.data import ImageSource
from rela_zoo.data.resize import MOST_PIXELS
from rela_zoo.embeddings._transforms import can_be_split, can_resize_whole, input_side

_CPU_BATCH = 32  # a CPU's caches hold no more
_GPU_BATCH, _GPU_LARGEST = 256, 1024
# Device memory for each byte of a float32 image: what the maps of a ResNet-50 or a ViT-L take at most, with room.
_MAPS = 64
PIECE = 64  # images that a worker hands over at a time to a GPU
_MOST_WORKERS = 32
PREFETCH = 2  # batches that a worker makes ahead
# Batches below which starting processes takes longer than it saves; more where each has to import everything anew.
_WORTH_A_FORK, _WORTH_A_SPAWN = 4, 64


def choose_batch_size(device: torch.device, side: int) -> int:
    """Images at once: 32 on a CPU whatever the machine, so that CPUs compute alike; on a GPU by size and free memory.

    Args:
        device: where the prior runs.
        side: of its images, in pixels.
    """
    if device.type == "cpu":
        return _CPU_BATCH
    wanted = _GPU_BATCH * 224**2 / side**2
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        wanted = min(wanted, free / 2 / (3 * side**2 * 4 * _MAPS))
    return 1 << int(math.log2(min(max(wanted, 1), _GPU_LARGEST)))


def choose_workers(device: torch.device, source: ImageSource, transform: Any, batch_size: int, batches: int) -> int:
    """Processes that decode images: as many as cores for a GPU, half as many for a CPU, where the model needs them too.

    Fewer where memory is short; 0 where processes would not pay, or can't be started.

    Args:
        device: where the prior runs.
        source, transform: what a process would be given.
        batch_size: images a batch.
        batches: how many there are.
    """
    cores = usable_cores()
    method = start_method()
    if method != "fork" and not (source.encoded and can_be_split(transform)):
        return 0  # a whole array would be sent to each process, or what can't be sent
    if cores < 2 or batches < (_WORTH_A_FORK if method == "fork" else _WORTH_A_SPAWN):
        return 0
    if multiprocessing.current_process().daemon:  # which may have no children
        return 0
    wanted = min(cores // 2 if device.type == "cpu" else cores, _MOST_WORKERS, batches)
    # Bytes of an image, of a channel: as it is handed over, and of that in shared memory for tensors.
    handed_over = in_tensors = input_side(transform) ** 2 * (1 if can_be_split(transform) else 4)
    if device.type == "cuda" and can_resize_whole(transform):
        handed_over = max(in_tensors, MOST_PIXELS)
        if method != "fork":  # processes that are forked write them elsewhere
            in_tensors = handed_over
    for free, size in ((free_memory(), handed_over), (free_shared_memory(), in_tensors)):
        if free is not None:
            wanted = min(wanted, free // 2 // ((PREFETCH + 1) * batch_size * 3 * size))
    return wanted


def start_method() -> str:
    """How processes are started here; asking settles nothing, as `multiprocessing.get_start_method()` would."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
