"""From the handover on: the accelerated loss keeps a share, on features that are made once; rates begin anew."""

import pytest
import torch
import torch.nn.functional as F

spt = pytest.importorskip("stable_pretraining")
tiny = pytest.importorskip("tiny_spt")

from stable_pretraining.callbacks import TeacherStudentCallback  # noqa: E402

from rela_zoo.hosts.stable_pretraining import accelerate  # noqa: E402

pytestmark = pytest.mark.spt
METHODS = ["simclr", "byol", "dino", "vicreg"]


def _data(method):
    return tiny.loader(tiny.images(tiny.multi_crop() if method == "dino" else tiny.two_views()))


def _run(method, features="backbone", **rela):
    """Losses of a run, how often its student ran in each step of the own stage, and what each of them gave."""
    # Targets and head as in the reference code, which are worked out by hand here.
    section = tiny.rela(**{"power": 1.0, "head": "frozen", **rela})
    module, record, calls = accelerate(tiny.module(method), section, features=features), tiny.Record(), []
    student = getattr(module.backbone, "student", module.backbone)

    def note(part, given, made):
        if part.training and torch.is_grad_enabled():
            calls.append((module.global_step, getattr(made, "last_hidden_state", made).detach()))

    student.register_forward_hook(note)
    run = tiny.fit(module, record, data=_data(method))
    return tiny.accelerator(run), record, calls


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("handover", [0.0, 0.5])
def test_a_mixture_runs_the_backbone_no_more_often(method, handover):
    accelerator, mixed, calls = _run(method, mix="linear", handover=handover)
    _, plain, without = _run(method, handover=handover)
    assert [step for step, _ in calls] == [step for step, _ in without]
    begun = accelerator.handover_step
    assert begun == 12 * handover
    assert mixed.losses[:begun] == plain.losses[:begun]
    assert all(torch.isfinite(torch.tensor(mixed.losses)))
    # The first batch of the own stage is trained on the accelerated loss alone, with the features that the method made.
    first = [made for step, made in calls if step == begun and made.shape[0] in (4, 8)][:2]
    features = torch.cat([made[:, 0] if made.ndim == 3 else made for made in first])[:8]
    targets, samples = accelerator.targets[0], torch.tensor(mixed.samples[begun])
    wanted = targets.transport(targets.rows(samples), dim=accelerator.dims[0]).repeat(2, 1)
    loss = (1 - F.cosine_similarity(accelerator.head(features), wanted)).mean()
    assert mixed.losses[begun] == pytest.approx(float(loss), rel=1e-4)
    assert mixed.losses[begun] != pytest.approx(plain.losses[begun], rel=1e-3)


def test_half_of_each():
    _, half, _ = _run("simclr", mix=0.5, handover=0.0)
    _, own, _ = _run("simclr", handover=0.0)
    _, ours, _ = _run("simclr", mix="linear", handover=0.0)
    assert half.losses[0] == pytest.approx((own.losses[0] + ours.losses[0]) / 2, rel=1e-5)


def test_features_made_by_a_function_are_made_again():
    _, mixed, calls = _run("simclr", features=lambda module, x: module.backbone(x), mix=0.5)
    assert [step for step, _ in calls].count(8) == 4
    _, named, _ = _run("simclr", mix=0.5)
    assert mixed.losses[6] == pytest.approx(named.losses[6], rel=1e-5)


def _rated(tmp_path=None, ckpt=None, probe=False, **rela):
    schedule = {"type": "OneCycleLR", "max_lr": 0.02, "total_steps": 13}
    module = accelerate(
        tiny.module("byol", {"optimizer": {"type": "AdamW", "lr": 1e-2}, "scheduler": schedule}), tiny.rela(**rela)
    )
    rates, record = [], tiny.Record()

    class Before(tiny.pl.Callback):
        """After the forward, when rates are what the step will be made with."""

        def on_before_backward(self, trainer, pl_module, loss):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    saving = []
    if tmp_path is not None:
        saving = [tiny.pl.callbacks.ModelCheckpoint(str(tmp_path), filename="{epoch}", save_top_k=-1)]
    tiny.fit(
        module, *([tiny.probe(module)] if probe else []), TeacherStudentCallback(), record, Before(), *saving,
        ckpt=ckpt, enable_checkpointing=bool(saving),
    )  # fmt: skip
    return rates, record.losses


@pytest.mark.parametrize("probe", [False, True])
def test_rates_begin_anew(tmp_path, probe):
    plain, _ = _rated(prior=None)
    assert len(plain) == 12
    rates, losses = _rated(tmp_path / "whole", rewarm=True, mix="linear", probe=probe)
    assert rates == pytest.approx(plain[:6] + plain[::2])
    for epoch in (0, 2):
        again = _rated(tmp_path / f"from {epoch}", tmp_path / "whole" / f"epoch={epoch}.ckpt", probe,
                       rewarm=True, mix="linear")  # fmt: skip
        assert again == (rates[3 * (epoch + 1) :], losses[3 * (epoch + 1) :])


def test_several_priors_and_other_heads():
    for more in ({"prior": ["random-test_resnet", "random-resnet18"]}, {"head": "mlp"}, {"handover": "plateau"}):
        _, record, _ = _run("simclr", **more)
        assert len(record.losses) == 12
        assert all(torch.isfinite(torch.tensor(record.losses)))
