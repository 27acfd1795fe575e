"""solo-learn's methods: which of them go through the two stages, and what is peculiar to each."""

from __future__ import annotations

_QUEUE = "its queue is filled in the method's own stage only, and starts as at the start of a plain run"

# Keys of `solo.methods.METHODS`, which are `method:` in a configuration, with what is peculiar; mostly nothing. How
# each fares is tried out by `scripts/solo_learn_table.py`.
SUPPORT: dict[str, str] = {
    "all4one": _QUEUE,
    "barlow_twins": "",
    "byol": "multi-crop too: the accelerated stage takes the large crops only",
    "deepclusterv2": "only with data_ratio=1: its targets are the clusters of the same samples one epoch earlier, "
    "which a fresh draw does not have; the first epoch of its own stage fills its memory, as the first of a plain run "
    "does",
    "dino": "freeze_last_layer and the warm-up of the teacher's temperature are counted from the handover",
    "mae": "in the accelerated stage the network sees the whole image, not a quarter of its patches",
    "mocov2plus": _QUEUE,
    "mocov3": "",
    "nnbyol": _QUEUE,
    "nnclr": _QUEUE,
    "nnsiam": _QUEUE,
    "ressl": _QUEUE,
    "simclr": "multi-crop too",
    "simsiam": "",
    "supcon": "multi-crop too; its own loss uses the labels",
    "swav": "multi-crop too; freeze_prototypes_epochs and epoch_queue_starts are counted from the handover",
    "vibcreg": "",
    "vicreg": "",
    "wmse": "the batch must be a multiple of method_kwargs.whitening_size",
}

# Entries of METHODS that are no self-supervised methods.
NOT_METHODS = frozenset({"base", "linear"})
