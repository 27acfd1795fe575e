"""Names that a configuration may use, known without importing torch or Lightning; a test holds them to the code.

What is there once the code has been imported counts, too: a method that somebody has added.
"""

from __future__ import annotations

import sys
from typing import Any

_METHODS = (
    "barlow_twins", "byol", "dino", "mocov2plus", "mocov3", "simclr", "simsiam", "supervised", "swav", "vicreg",
)  # fmt: skip
_TAKE_SMALL_CROPS = ("byol", "dino", "simclr", "supervised", "swav")
_METHOD_KEYS = (
    "clip_grad", "cov_loss_weight", "epoch_queue_starts", "freeze_last_layer", "freeze_prototypes_epochs", "lamb",
    "norm_last_layer", "num_prototypes", "pred_hidden_dim", "proj_hidden_dim", "proj_output_dim", "queue_size",
    "scale_loss", "sim_loss_weight", "sk_epsilon", "sk_iters", "student_temperature", "teacher_temperature",
    "temperature", "use_bn_in_head", "var_loss_weight", "warmup_teacher_temperature",
    "warmup_teacher_temperature_epochs",
)  # fmt: skip
OPTIMIZER_NAMES = ("sgd", "lars", "adam", "adamw")
SCHEDULER_NAMES = ("warmup_cosine", "step", "none")
# Of Lightning's Trainer, that are no keys of the host's own.
TRAINER_KEYS = (
    "logger", "callbacks", "fast_dev_run", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches", "val_check_interval",
    "check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps", "enable_checkpointing",
    "enable_progress_bar", "enable_model_summary", "gradient_clip_val", "gradient_clip_algorithm", "deterministic",
    "benchmark", "inference_mode", "use_distributed_sampler", "profiler", "detect_anomaly", "barebones", "plugins",
    "reload_dataloaders_every_n_epochs", "default_root_dir", "enable_autolog_hparams", "model_registry",
)  # fmt: skip


def _imported() -> dict[str, Any]:
    module = sys.modules.get("rela_zoo.hosts.builtin.methods")
    # While it is being imported it has none yet.
    return getattr(module, "METHODS", {})


def method_names() -> list[str]:
    """Of the built-in methods."""
    return list(dict.fromkeys([*_METHODS, *_imported()]))


def small_crop_methods() -> list[str]:
    """The methods whose loss has a meaning for small crops."""
    added = [name for name, method in _imported().items() if name not in _METHODS and method.takes_small_crops]
    return [*_TAKE_SMALL_CROPS, *added]


def method_keys() -> set[str]:
    """Keys of `method_kwargs`, of any method."""
    return {*_METHOD_KEYS, *(key for method in _imported().values() for key in method.METHOD_KWARGS)}
