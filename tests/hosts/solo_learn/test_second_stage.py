"""From the handover on the accelerated loss keeps a share and schedules begin anew; and all of it resumes."""

from __future__ import annotations

import math

import pytest
import torch

pytestmark = pytest.mark.solo

METHODS = ["byol", "deepclusterv2", "dino", "mae", "simclr", "swav"]
# Two batches an epoch (four of deepclusterv2, which needs all of the data), four epochs.
RATIO = {"deepclusterv2": 1.0}
STEPS, HANDOVER = 8, 4
# Epochs 0 and 1 are accelerated, 2 and 3 the method's own; the checkpoint of an epoch → the first epoch that follows.
STAGES = {"accelerated": 0, "own": 2}


@pytest.fixture(scope="module")
def folder(solo):
    return solo.folder / "second-stage"


def _job(solo, method, *rela, prior="tiny-grid", changes=None, **options):
    # Targets and head as in the reference code, which are worked out by hand here, and add no group of parameters.
    reference = ["rela.power=1.0", "rela.head=frozen"]
    words = [f"+rela={prior}", f"rela.data_ratio={RATIO.get(method, 0.5)}", *reference, *rela]
    warm = {"name": "warmup_cosine", "warmup_epochs": 1, "warmup_start_lr": 0.003, "min_lr": 0.001}
    return solo.job(method, *words, changes={"max_epochs": 4, "scheduler": warm, **(changes or {})}, **options)


def _saving(folder, name):
    return {"checkpoint": {"enabled": True, "dir": str(folder / name), "frequency": 1, "keep_prev": True}}


def _checkpoint(folder, name, epoch):
    (found,) = (folder / name).rglob(f"*ep={epoch}.ckpt")
    return found


@pytest.fixture(scope="module")
def runs(solo, folder):
    both = ["rela.mix=linear", "rela.rewarm=true", "rela.handover=0.5"]
    # Ten classes, for solo-learn asks the momentum classifier for its top five whatever their number.
    classifier = ["data.dataset=cifar10", "+limit_val_batches=0", "+momentum.classifier=True", "rela.data_ratio=0.34"]
    jobs = {
        **{
            ("at once", one): _job(
                solo, one, "rela.mix=linear", "rela.handover=0.0", by_hand=one in ("byol", "simclr"),
                changes={"max_epochs": 2},
            )
            for one in METHODS
        },
        ("at once", "classifier"): _job(
            solo, "byol", "rela.mix=linear", "rela.handover=0.0", *classifier, by_hand=True, small_data_sets=True,
            changes={"max_epochs": 2},
        ),
        **{
            ("both", one): _job(solo, one, *both, taus=one in ("byol", "dino"), changes=_saving(folder, f"both-{one}"))
            for one in METHODS
        },
        # Schedules by themselves.
        **{
            ("plain", one): _job(solo, one, prior="default", taus=one in ("byol", "dino"))
            for one in ("byol", "dino", "mae", "simclr", "swav")
        },
        **{
            ("self", one): _job(
                solo, one, "rela.prior=self", "rela.handover=0.5", prior="default",
                changes=_saving(folder, f"self-{one}"),
            )
            for one in ("simclr", "mae")
        },
    }  # fmt: skip
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=900), strict=True))


@pytest.fixture(scope="module")
def resumed(solo, folder, runs):
    """Each of the runs that saved, gone on from a checkpoint of either stage."""
    jobs = {}
    for (kind, method), outcome in runs.items():
        if kind not in ("both", "self"):
            continue
        assert outcome.ok, outcome.error
        for stage, epoch in STAGES.items():
            name = f"{kind}-{method}"
            words = [f"+resume_from_checkpoint='{_checkpoint(folder, name, epoch)}'", "rela.handover=0.5"]
            words += ["rela.mix=linear", "rela.rewarm=true"] if kind == "both" else ["rela.prior=self"]
            jobs[kind, method, stage] = _job(
                solo, method, *words, prior="tiny-grid" if kind == "both" else "default",
                taus=method in ("byol", "dino"), changes=_saving(folder, f"{name}-{stage}"),
            )  # fmt: skip
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=900), strict=True))


def _finite(method, batches):
    """deepclusterv2 has no targets in the first epoch of its own stage, here as in a plain run."""
    return all(math.isfinite(b["loss"]) or (method == "deepclusterv2" and b["own_epoch"] == 0) for b in batches)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["at once", "both"])
def test_a_method_trains_with_a_mixture(runs, kind, method):
    outcome = runs[kind, method]
    assert outcome.ok, outcome.error
    assert _finite(method, outcome.batches)
    own = [b for b in outcome.batches if b["stage"] == "own"]
    assert len(own) == (4 if method != "deepclusterv2" else 8)
    assert math.isfinite(outcome.batches[-1]["loss"])
    assert "backbone.conv1.weight" in outcome.end["moved"] or method == "mae"


@pytest.mark.parametrize("method", ["byol", "simclr", "classifier"])
def test_the_mixture_is_what_it_says(runs, method):
    outcome = runs["at once", method]
    assert outcome.ok, outcome.error
    wanted = outcome.rows("by hand")
    assert [row["share"] for row in wanted] == [1.0, 0.75, 0.5, 0.25]
    assert all(abs(row["ours"] - row["own"]) > 0.05 for row in wanted)
    assert [b["loss"] for b in outcome.batches] == pytest.approx([row["total"] for row in wanted], rel=1e-4)


def _again(values):
    """A schedule of eight steps: the first half of it, and all of it in the other half."""
    return values[:HANDOVER] + values[: STEPS : STEPS // (STEPS - HANDOVER)]


@pytest.mark.parametrize("method", ["byol", "dino", "mae", "simclr", "swav"])
def test_learning_rates_begin_anew(runs, method):
    rates, plain = ([row["rates"] for row in runs[kind, method].rows("rates")] for kind in ("both", "plain"))
    assert len(plain) == STEPS
    assert len({tuple(row) for row in plain}) > 4
    for mine, alone in zip(rates, _again(plain), strict=True):
        assert mine == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("method", ["byol", "dino"])
def test_the_momentum_begins_anew(runs, method):
    taus, plain = ([row["tau"] for row in runs[kind, method].rows("tau")] for kind in ("both", "plain"))
    assert len(set(plain)) == STEPS
    assert taus == pytest.approx(_again(plain), rel=1e-9)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("kind", "method"), [*(("both", one) for one in METHODS), ("self", "simclr"), ("self", "mae")])
def test_it_resumes_in_either_stage(runs, resumed, folder, kind, method, stage):
    whole, again = runs[kind, method], resumed[kind, method, stage]
    assert again.ok, again.error
    wanted = [b for b in whole.batches if b["epoch"] > STAGES[stage]]
    # As text, for deepclusterv2's loss is not a number in the first epoch of its own stage.
    for key in ("epoch", "batch", "step", "indices", "pixels", "stage", "own_epoch", "loss"):
        assert [repr(b[key]) for b in again.batches] == [repr(b[key]) for b in wanted], key
    for row in ("rates", "tau"):
        rows = again.rows(row)
        assert rows == whole.rows(row)[-len(rows) or len(whole.rows(row)) :], row
    assert again.end["handover_step"] == whole.end["handover_step"]
    assert again.end["parameters"] == whole.end["parameters"]
    names = f"{kind}-{method}", f"{kind}-{method}-{stage}"
    first, then = (torch.load(_checkpoint(folder, name, 3), weights_only=True)["rela"] for name in names)
    assert first["embeddings"]
    assert first["embeddings"] == then["embeddings"]


@pytest.fixture(scope="module")
def others(solo):
    jobs = {
        "two priors": _job(
            solo, "simclr", "rela.prior=[tiny-grid,random-resnet18]", "rela.handover=0.5", prior="default"
        ),
        "mlp": _job(solo, "byol", "rela.head=mlp", "rela.handover=0.5", "rela.mix=0.5"),
        "plateau": _job(solo, "simclr", "rela.handover=plateau", changes={"max_epochs": 12}),
    }
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True))


@pytest.mark.parametrize("name", ["two priors", "mlp"])
def test_other_targets_and_heads(others, name):
    outcome = others[name]
    assert outcome.ok, outcome.error
    assert [b["stage"] for b in outcome.batches] == ["accelerated"] * 4 + ["own"] * 4
    assert all(math.isfinite(b["loss"]) for b in outcome.batches)
    trained = [one for one in outcome.end["moved"] if one.startswith("rela_head")]
    assert bool(trained) == (name == "mlp")
    assert len(outcome.start["head"]) == 4  # weights and biases: of two heads, or of two layers
    if name == "two priors":
        assert "prior tiny-grid, random-resnet18" in outcome.output


def test_a_handover_at_a_plateau(others):
    outcome = others["plateau"]
    assert outcome.ok, outcome.error
    stages = [b["stage"] for b in outcome.batches]
    assert stages == sorted(stages)
    assert stages.count("own") == (24 - outcome.end["handover_step"] if outcome.end["handover_step"] else 0)
    assert all(math.isfinite(b["loss"]) for b in outcome.batches)
