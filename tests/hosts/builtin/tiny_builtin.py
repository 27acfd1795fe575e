"""The built-in methods, each as small as it goes."""

from __future__ import annotations

from typing import Any

KWARGS: dict[str, dict[str, Any]] = {
    "barlow_twins": {"proj_hidden_dim": 32, "proj_output_dim": 16},
    "byol": {"proj_hidden_dim": 32, "proj_output_dim": 16, "pred_hidden_dim": 32},
    "dino": {"proj_hidden_dim": 32, "proj_output_dim": 16, "num_prototypes": 24, "clip_grad": 1.0},
    "mocov2plus": {"proj_hidden_dim": 32, "proj_output_dim": 16, "queue_size": 20},
    "mocov3": {"proj_hidden_dim": 32, "proj_output_dim": 16, "pred_hidden_dim": 32},
    "simclr": {"proj_hidden_dim": 32, "proj_output_dim": 16},
    "simsiam": {"proj_hidden_dim": 32, "proj_output_dim": 16, "pred_hidden_dim": 8},
    "supervised": {},
    "swav": {
        "proj_hidden_dim": 32,
        "proj_output_dim": 16,
        "num_prototypes": 12,
        "queue_size": 20,
        "epoch_queue_starts": 1,
    },
    "vicreg": {"proj_hidden_dim": 32, "proj_output_dim": 16},
}
