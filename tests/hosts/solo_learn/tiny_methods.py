"""solo-learn's methods, each as small as it goes: keys of a configuration beyond those that all share."""

from __future__ import annotations

from typing import Any

VIEW = {
    "rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0},
    "color_jitter": {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
    "grayscale": {"prob": 0.2},
    "gaussian_blur": {"prob": 0.1},
    "solarization": {"prob": 0.1},
    "equalization": {"prob": 0.0},
    "horizontal_flip": {"prob": 0.5},
    "crop_size": 32,
    "num_crops": 2,
}
_MOMENTUM = {"base_tau": 0.99, "final_tau": 1.0}
_SMALL = {"proj_hidden_dim": 16, "proj_output_dim": 8}
_PREDICTOR = {**_SMALL, "pred_hidden_dim": 16}
_QUEUE = {**_PREDICTOR, "queue_size": 32}

# What each method needs beyond the common part, as small as it goes.
METHODS: dict[str, dict[str, Any]] = {
    "all4one": {"method_kwargs": {**_QUEUE, "temperature": 0.2}, "momentum": _MOMENTUM},
    "barlow_twins": {"method_kwargs": {**_SMALL, "scale_loss": 0.1}},
    "byol": {"method_kwargs": _PREDICTOR, "momentum": _MOMENTUM},
    "deepclusterv2": {"method_kwargs": {**_SMALL, "num_prototypes": [4, 4], "kmeans_iters": 2}},
    "dino": {"method_kwargs": {**_SMALL, "num_prototypes": 16}, "momentum": _MOMENTUM},
    "mae": {
        "method_kwargs": {"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2},
        "backbone": {"name": "vit_tiny", "kwargs": {"patch_size": 8, "img_size": 32}},
        "augmentations": [{**VIEW, "num_crops": 1}],
    },
    "mocov2plus": {"method_kwargs": {**_SMALL, "queue_size": 32, "temperature": 0.2}, "momentum": _MOMENTUM},
    "mocov3": {"method_kwargs": {**_PREDICTOR, "temperature": 0.2}, "momentum": _MOMENTUM},
    "nnbyol": {"method_kwargs": _QUEUE, "momentum": _MOMENTUM},
    "nnclr": {"method_kwargs": {**_QUEUE, "temperature": 0.2}},
    "nnsiam": {"method_kwargs": _QUEUE},
    "ressl": {
        "method_kwargs": {**_SMALL, "queue_size": 32, "temperature_q": 0.1, "temperature_k": 0.04},
        "momentum": _MOMENTUM,
    },
    "simclr": {"method_kwargs": {**_SMALL, "temperature": 0.2}},
    "simsiam": {"method_kwargs": {**_PREDICTOR, "temperature": 0.2}},
    "supcon": {"method_kwargs": {**_SMALL, "temperature": 0.2}},
    "swav": {
        "method_kwargs": {**_SMALL, "queue_size": 16, "num_prototypes": 8, "epoch_queue_starts": 1, "temperature": 0.1}
    },
    "vibcreg": {
        "method_kwargs": {
            **_SMALL,
            "sim_loss_weight": 25.0,
            "var_loss_weight": 25.0,
            "cov_loss_weight": 200.0,
            "iternorm": True,
        }
    },
    "vicreg": {
        "method_kwargs": {**_SMALL, "sim_loss_weight": 25.0, "var_loss_weight": 25.0, "cov_loss_weight": 1.0},
    },
    "wmse": {"method_kwargs": {"proj_hidden_dim": 16, "proj_output_dim": 2, "whitening_size": 4}},
}
