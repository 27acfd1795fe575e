"""solo-learn's methods: which of them go through the two stages, and what is peculiar to each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodSupport:
    """How one method fares.

    Attributes:
        name: its key in `solo.methods.METHODS`, and `method:` in a configuration.
        status: `works`, or `limits` when a condition is attached.
        note: what is peculiar, or the condition; empty if nothing is.
    """

    name: str
    status: str
    note: str = ""


_QUEUE = "its queue is filled in the method's own stage only, and starts as at the start of a plain run"
SUPPORT: dict[str, MethodSupport] = {
    entry.name: entry
    for entry in (
        MethodSupport("all4one", "works", _QUEUE),
        MethodSupport("barlow_twins", "works"),
        MethodSupport("byol", "works", "multi-crop too: the accelerated stage takes the large crops only"),
        MethodSupport(
            "deepclusterv2",
            "limits",
            "only with data_ratio=1: its targets are the clusters of the same samples one epoch earlier, which a "
            "fresh draw does not have; the first epoch of its own stage fills its memory, as the first of a plain "
            "run does",
        ),
        MethodSupport(
            "dino",
            "works",
            "freeze_last_layer and the warm-up of the teacher's temperature are counted from the handover",
        ),
        MethodSupport(
            "mae",
            "works",
            "in the accelerated stage the network sees the whole image, not a quarter of its patches",
        ),
        MethodSupport("mocov2plus", "works", _QUEUE),
        MethodSupport("mocov3", "works"),
        MethodSupport("nnbyol", "works", _QUEUE),
        MethodSupport("nnclr", "works", _QUEUE),
        MethodSupport("nnsiam", "works", _QUEUE),
        MethodSupport("ressl", "works", _QUEUE),
        MethodSupport("simclr", "works", "multi-crop too"),
        MethodSupport("simsiam", "works"),
        MethodSupport("supcon", "works", "multi-crop too; its own loss uses the labels"),
        MethodSupport(
            "swav",
            "works",
            "multi-crop too; freeze_prototypes_epochs and epoch_queue_starts are counted from the handover",
        ),
        MethodSupport("vibcreg", "works"),
        MethodSupport("vicreg", "works"),
        MethodSupport("wmse", "works", "the batch must be a multiple of method_kwargs.whitening_size"),
    )
}

# Entries of METHODS that are no self-supervised methods.
NOT_METHODS = frozenset({"base", "linear"})


def support_table() -> str:
    """The table of the README, in Markdown: a line a method."""
    lines = ["| method | with `rela` | how |", "| --- | --- | --- |"]
    words = {"works": "works", "limits": "under a condition"}
    lines += [f"| {entry.name} | {words[entry.status]} | {entry.note} |" for entry in SUPPORT.values()]
    return "\n".join(lines)
