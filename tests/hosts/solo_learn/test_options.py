"""What solo-learn's configurations can ask for besides: multi-crop, k-NN, accumulation, precision and the like."""

from __future__ import annotations

import math

import pytest
import torch

from rela_zoo.hosts.solo_learn._check import knn_works

pytestmark = pytest.mark.solo

RELA = ["+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.5"]


def _crops(view: dict) -> list[dict]:
    return [{**view, "num_crops": 2}, {**view, "crop_size": 16, "num_crops": 3}]


@pytest.fixture(scope="module")
def outcomes(solo):
    view = solo.view
    jobs = {
        "multi-crop": solo.job("byol", *RELA, changes={"augmentations": _crops(view)}),
        "multi-crop swav": solo.job("swav", *RELA, changes={"augmentations": _crops(view)}),
        # Ten classes, for solo-learn asks the momentum classifier for its top five whatever their number.
        "classifier": solo.job(
            "byol", *RELA, "+momentum.classifier=True", "data.dataset=cifar10", small_data_sets=True
        ),
        "knn": solo.job("byol", *RELA, f"data.val_path={solo.data / 'val'}", "+knn_eval.enabled=True", "+knn_eval.k=2"),
        "accumulation": solo.job("byol", *RELA, "+accumulate_grad_batches=2", changes={"max_epochs": 4}),
        "accumulation, step": solo.job(
            "simclr", *RELA, "rela.handover_at=step", "rela.data_ratio=1.0", "+accumulate_grad_batches=2"
        ),
        "16-mixed": solo.job("byol", *RELA, "precision=16-mixed"),
        "bf16-mixed": solo.job("byol", *RELA, "precision=bf16-mixed"),
        "no channels_last": solo.job("byol", *RELA, "+performance.disable_channel_last=True"),
        "frozen head": solo.job("simclr", *RELA, "rela.head=frozen"),
        "views of the method": solo.job("simclr", *RELA, "rela.augmentations=method"),
        "workers": solo.job("simclr", *RELA, "data.num_workers=2"),
        "workers, reference": solo.job("simclr", *RELA),
        "only the subset": solo.job("simclr", "+rela=default", "rela.data_ratio=0.5"),
        "never handed over": solo.job("simclr", "+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=1.0"),
    }
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True))


@pytest.mark.parametrize(
    "name", ["multi-crop", "multi-crop swav", "classifier", "16-mixed", "bf16-mixed", "no channels_last"]
)
def test_both_stages_run(outcomes, name):
    outcome = outcomes[name]
    assert outcome.ok, outcome.error
    half = len(outcome.batches) // 2
    assert [b["stage"] for b in outcome.batches] == ["accelerated"] * half + ["own"] * half
    assert half == (3 if name == "classifier" else 2)
    assert all(math.isfinite(b["loss"]) for b in outcome.batches)


@pytest.mark.parametrize("name", ["multi-crop", "multi-crop swav"])
def test_the_accelerated_stage_takes_the_large_crops_only(outcomes, name):
    assert [b["views"] for b in outcomes[name].batches] == [2, 2, 5, 5]


def test_the_momentum_classifier_goes_on_being_trained(outcomes):
    end = outcomes["classifier"].end
    assert {"val_acc1", "momentum_val_acc1", "train_momentum_class_loss"} <= set(end["metrics"])
    assert "momentum_classifier.weight" in end["moved"]


def test_k_nn_works_or_is_refused_with_the_reason(outcomes):
    outcome = outcomes["knn"]
    if knn_works():
        assert outcome.ok, outcome.error
        assert "val_knn_acc1" in outcome.end["metrics"]
    else:
        assert not outcome.ok
        assert "knn_eval.enabled" in outcome.error


def test_channels_last_is_left_as_asked_for(outcomes):
    assert outcomes["multi-crop"].end["channels_last"]
    assert not outcomes["no channels_last"].end["channels_last"]


def test_parameters_stay_float32_in_mixed_precision(outcomes):
    assert outcomes["bf16-mixed"].start["dtype"] == "torch.float32"


def test_accumulated_micro_batches_are_one_step(outcomes):
    outcome = outcomes["accumulation"]
    assert outcome.ok, outcome.error
    assert [b["step"] for b in outcome.batches] == [0, 1, 1, 2, 2, 3, 3, 4]
    assert outcome.end["handover_step"] == 2
    outcome = outcomes["accumulation, step"]
    assert outcome.ok, outcome.error
    stages = [b["stage"] for b in outcome.batches]
    assert stages == sorted(stages)


def test_views_and_losses_do_not_depend_on_workers(outcomes):
    one, none = outcomes["workers"], outcomes["workers, reference"]
    assert one.ok, one.error
    for key in ("indices", "pixels", "loss", "stage"):
        assert [b[key] for b in one.batches] == [b[key] for b in none.batches], key


def test_the_first_epochs_views_are_those_of_the_accelerated_stage(outcomes):
    milder, same = outcomes["workers"].batches, outcomes["views of the method"].batches
    assert [b["indices"] for b in milder] == [b["indices"] for b in same]
    assert [b["pixels"] for b in milder[2:]] == [b["pixels"] for b in same[2:]]
    assert not {b["pixels"] for b in milder[:2]} & {b["pixels"] for b in same[:2]}


def test_heads(outcomes):
    trained, frozen = outcomes["workers, reference"], outcomes["frozen head"]
    assert frozen.start["head"] == trained.start["head"] == [[24, 512], [24]]
    assert "rela_head.weight" in trained.end["moved"]
    assert "rela_head.weight" not in frozen.end["moved"]


def test_a_subset_without_prior_is_the_methods_own_stage(outcomes):
    outcome = outcomes["only the subset"]
    assert outcome.ok, outcome.error
    assert {b["stage"] for b in outcome.batches} == {"own"}
    assert outcome.start["head"] is None


def test_without_handover_the_heads_of_the_method_never_move(outcomes):
    outcome = outcomes["never handed over"]
    assert outcome.ok, outcome.error
    assert {b["stage"] for b in outcome.batches} == {"accelerated"}
    moved = outcome.end["moved"]
    # Weight decay included: what has no gradient must have none at all.
    assert not [name for name in moved if name.startswith("projector")]
    assert "backbone.conv1.weight" in moved
    assert "classifier.weight" in moved


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["byol", "dino", "simclr", "swav"])
def test_on_a_gpu(solo, method):
    """Views by workers and on the device, images anywhere: the same samples, and finite losses, in both stages."""
    changes = {"accelerator": "gpu", "devices": [0], "precision": "16-mixed", "max_epochs": 2}
    ways = [(), ("rela.views_on=device",), ("rela.views_on=device", "rela.cache=device"), ("rela.cache=memory",)]
    jobs = [solo.job(method, *RELA, "data.num_workers=2", *way, changes=changes) for way in ways]
    outcomes = solo.run(*jobs)
    for outcome in outcomes:
        assert outcome.ok, outcome.error
        assert [b["stage"] for b in outcome.batches] == ["accelerated"] * 2 + ["own"] * 2
        assert [b["indices"] for b in outcome.batches] == [b["indices"] for b in outcomes[0].batches]
        assert all(math.isfinite(b["loss"]) for b in outcome.batches)
    made, held = outcomes[1:3]
    assert [b["pixels"] for b in made.batches] == [b["pixels"] for b in held.batches]
