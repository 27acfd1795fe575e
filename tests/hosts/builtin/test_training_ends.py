"""What a training says about itself: losses that are not finite, stages that ran, and a teacher that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from rela_zoo.errors import ConfigError, RelaZooError, TrainingError
from rela_zoo.hosts.builtin.train import train

PRIOR = {"prior": "random-test_resnet", "data_ratio": 1.0, "verify": 0}


class _Spoil(Callback):
    """Makes the student's weights NaN before a step, or after the last."""

    def __init__(self, epoch: int, batch: int, when: str = "before") -> None:
        self.at, self.when = (epoch, batch), when

    def _spoil(self, trainer: Any, module: Any, batch_idx: int, when: str) -> None:
        if (trainer.current_epoch, batch_idx, when) == (*self.at, self.when):
            with torch.no_grad():
                for parameter in module.backbone.parameters():
                    parameter.fill_(float("nan"))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._spoil(trainer, pl_module, batch_idx, "before")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._spoil(trainer, pl_module, batch_idx, "after")


@pytest.mark.parametrize(
    ("rela", "stage"),
    [
        (None, "the stage of byol"),
        ({**PRIOR, "handover": 1.0}, "the accelerated stage"),
        ({**PRIOR, "handover": 0.5}, "the stage of byol"),
    ],
)
def test_a_loss_that_is_not_finite_ends_it(config: dict[str, Any], rela: Any, stage: str) -> None:
    config["rela"] = rela
    with pytest.raises(TrainingError, match=f"not finite at step 5, in {stage}"):
        train(config, callbacks=[_Spoil(1, 1)])
    (kept,) = Path(config["checkpoint"]["dir"]).glob("byol/*/*.ckpt")
    assert kept.name == "test-ep=0.ckpt"
    weights = torch.load(kept, weights_only=True)["state_dict"].values()
    assert all(bool(torch.isfinite(one).all()) for one in weights if one.is_floating_point())


def test_weights_that_are_not_finite_replace_no_checkpoint(config: dict[str, Any]) -> None:
    """The last step of an epoch can spoil them, after a loss that was fine."""
    with pytest.raises(TrainingError, match="weights are not finite after step 6") as caught:
        train(config, callbacks=[_Spoil(1, 2, "after")])
    assert "backbone." in str(caught.value.got)
    assert [path.name for path in Path(config["checkpoint"]["dir"]).glob("byol/*/*.ckpt*")] == ["test-ep=0.ckpt"]


@pytest.mark.parametrize(
    ("rela", "stages"),
    [(None, (0, 6)), ({**PRIOR, "handover": 1.0}, (6, 0)), ({**PRIOR, "handover": 0.5}, (3, 3))],
)
def test_the_result_says_which_stages_ran(config: dict[str, Any], rela: Any, stages: tuple[int, int]) -> None:
    config.update(rela=rela, auto_resume={"enabled": True})
    first = train(config)
    assert (first.accelerated_steps, first.own_steps) == stages
    assert first.new_steps == 6
    told = first.summary()
    assert told.startswith("trained 2 epochs, 6 steps")
    accelerated = f"{stages[0]} steps accelerated" if stages[0] else ""
    own = f"{stages[1]} steps of byol" if stages[1] else "no step of byol"
    assert f"stages: {', then '.join(filter(None, (accelerated, own)))}\n" in told
    again = train(config)
    assert again.new_steps == 0
    assert (again.accelerated_steps, again.own_steps) == stages
    assert again.summary().startswith(f"nothing was trained: {first.checkpoint} has all 2 epochs")


def test_a_handover_that_leaves_no_accelerated_batch_is_refused(config: dict[str, Any]) -> None:
    config.update(rela={**PRIOR, "handover": 0.5}, max_epochs=1)
    with pytest.raises(ConfigError, match=r"rela\.handover: expected at least one whole epoch"):
        train(config)
    config["rela"]["handover_at"] = "step"
    assert train({**config, "fast_dev_run": True, "checkpoint": {"enabled": False}}).accelerated_steps == 1


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("method", ["byol", "mocov3"])
def test_the_teacher_has_batch_statistics_after_the_accelerated_stage(
    config: dict[str, Any], method: str, classifier: bool
) -> None:
    config.update(
        method=method,
        backbone={"name": "test_resnet", "kwargs": {}},
        rela={**PRIOR, "handover": 1.0},
        momentum={"base_tau": 0.9, "final_tau": 1.0, "classifier": classifier},
    )
    student, teacher = (dict(getattr(train_result, name).named_buffers())
                        for train_result in [train(config).method]
                        for name in ("backbone", "momentum_backbone"))  # fmt: skip
    variances = [name for name in teacher if name.endswith("running_var")]
    assert variances
    for name in variances:
        assert not torch.equal(teacher[name], torch.ones_like(teacher[name])), name
        # With a classifier of its own the teacher sees the batches itself.
        assert torch.equal(teacher[name], student[name]) != classifier, name


def _break(config: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the training images in which one can't be decoded."""
    import shutil

    root = tmp_path / "broken"
    shutil.copytree(config["data"]["train_path"], root)
    (root / "bee" / "03.png").write_bytes(b"no picture")
    config["data"]["train_path"] = str(root)
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_or_left_out(config: dict[str, Any], tmp_path: Path, workers: int, said: Any) -> None:
    _break(config, tmp_path)
    config["data"]["num_workers"] = workers
    with pytest.raises(RelaZooError, match=r"bee/03\.png") as caught:
        train(config)
    assert "Traceback" not in str(caught.value)
    config["data"]["on_error"] = "skip"
    config["optimizer"]["batch_size"] = 23
    config["rela"] = {**PRIOR, "handover": 1.0}
    result = train(config)
    assert result.samples_seen == 2 * 23
    assert "1 images are left out of the training, for they can't be decoded: bee/03.png" in str(said)


def test_what_was_left_out_of_the_embeddings_is_left_out_of_the_training(
    config: dict[str, Any], tmp_path: Path, said: Any
) -> None:
    from rela_zoo import embed

    root = _break(config, tmp_path)
    table = embed("random-test_resnet", root, tmp_path / "rows", on_error="skip")
    assert table.shape[0] == 23
    config["optimizer"]["batch_size"] = 23
    config["rela"] = {**PRIOR, "handover": 1.0, "embeddings": str(table.path)}
    assert train(config).samples_seen == 2 * 23
    assert f"were left out of {table.path}: bee/03.png" in str(said)
