"""stable-pretraining's own forwards through both stages: what is computed in each, and what goes on in both."""

from itertools import pairwise

import pytest
import torch

spt = pytest.importorskip("stable_pretraining")
tiny = pytest.importorskip("tiny_spt")

from stable_pretraining.callbacks import OnlineKNN, RankMe, TeacherStudentCallback  # noqa: E402
from torchmetrics.classification import MulticlassAccuracy  # noqa: E402

from rela_zoo.engine import Accelerator  # noqa: E402
from rela_zoo.hosts.stable_pretraining import accelerate  # noqa: E402

pytestmark = pytest.mark.spt
METHODS = ["simclr", "byol", "dino", "vicreg"]


def _data(method):
    return tiny.loader(tiny.images(tiny.multi_crop() if method == "dino" else tiny.two_views()))


def _count(module, calls):
    """Note in which training step each part of a module runs."""

    def noting(name):
        return lambda *_: calls.append((module.global_step, name)) if module.training else None

    for name, part in module.named_modules():
        if name.endswith("_loss"):
            part.register_forward_hook(noting("loss"))
        if name in ("projector", "projector.student", "predictor") and not list(part.children()):
            part.register_forward_hook(noting("head"))


@pytest.mark.parametrize("method", METHODS)
def test_both_stages(method, monkeypatch):
    calls, used = [], []
    own = Accelerator.loss
    monkeypatch.setattr(Accelerator, "loss", lambda self, x, i: used.append((len(x), i.tolist())) or own(self, x, i))
    module = accelerate(tiny.module(method), tiny.rela())
    _count(module, calls)
    record = tiny.Record()
    run = tiny.fit(module, record, data=_data(method), val=tiny.held())
    assert run.global_step == 12
    assert tiny.accelerator(run).handover_step == 6
    # Two large views of each batch get the accelerated loss, joined by the samples that they are of.
    assert used == [(2, samples) for samples in record.samples[:6]]
    assert {step for step, name in calls if name == "loss"} == {6, 7, 8, 9, 10, 11}
    assert {step for step, name in calls if name == "head"} == {6, 7, 8, 9, 10, 11}
    fitted = [one for one in module.seen if one[0] == "fit"]
    assert len(fitted) == 6
    # Local crops are made for the method's own stage alone.
    assert record.sizes == [{8}] * 6 + [{8, 4} if method == "dino" else {8}] * 6
    assert all(0 < loss < 2 for loss in record.losses[:6])
    assert len([one for one in module.seen if one[0] == "validate"]) == 4 * 3


@pytest.mark.parametrize("method", METHODS)
def test_what_probes_read_is_there_in_both_stages(method):
    module = accelerate(tiny.module(method), tiny.rela())
    probe, record = tiny.probe(module), tiny.Record()
    metrics = {"accuracy": MulticlassAccuracy(tiny.N)}
    knn = OnlineKNN("knn", "embedding", "label", queue_length=48, metrics=metrics, input_dim=8, k=3)
    rank = RankMe("rank", "embedding", queue_length=48, target_shape=8)
    before = []

    class Weights(tiny.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            before.append(probe.module.weight.detach().clone())

    run = tiny.fit(module, probe, knn, rank, Weights(), record, data=_data(method), val=tiny.held())
    assert all((one != two).any() for one, two in pairwise(before))
    for out, samples in zip(record.outputs, record.samples, strict=True):
        assert out["embedding"].shape == (8, 8)
        assert not out["embedding"].requires_grad or method in ("simclr", "vicreg")
        assert out["label"].tolist() == samples * 2
        assert out["probe_preds"].shape == (8, tiny.N)
    assert {"eval/probe_accuracy", "eval/knn_accuracy", "rank"} <= set(run.callback_metrics)


@pytest.mark.parametrize(("watched", "runs"), [(True, 6), (False, 0)])
def test_a_teacher_runs_where_somebody_reads_its_embedding(watched, runs):
    module = accelerate(tiny.module("byol"), tiny.rela(handover=1.0))
    given, record = [], tiny.Record()
    module.backbone.teacher.register_forward_hook(lambda *call: given.append(call[-1]))
    tiny.fit(module, *([tiny.probe(module)] if watched else []), record, max_epochs=1)
    assert len(given) == runs
    if watched:
        assert torch.equal(record.outputs[0]["embedding"], torch.cat(given[:2]))


@pytest.mark.parametrize("method", ["byol", "dino"])
def test_teachers_are_updated_in_both_stages(method):
    module = accelerate(tiny.module(method), tiny.rela())
    states = []

    class Teacher(tiny.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            states.append([one.clone() for one in pl_module.backbone.teacher.parameters()])

    tiny.fit(module, TeacherStudentCallback(), Teacher(), data=_data(method))
    assert len(states) == 12
    for one, two in pairwise(states):
        assert any((a != b).any() for a, b in zip(one, two, strict=True))


def test_a_forward_counts_epochs_from_the_handover():
    module = accelerate(tiny.module("dino"), tiny.rela())
    outside = []

    class Epochs(tiny.pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            outside.append(pl_module.current_epoch)

    kind = type(module)
    tiny.fit(module, Epochs(), data=_data("dino"))
    assert [epoch for _, epoch, _ in module.seen] == [0, 0, 0, 1, 1, 1]
    assert outside == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert type(module) is kind


def test_subsets_alone_without_a_prior():
    module, record = accelerate(tiny.module(), tiny.rela(prior=None)), tiny.Record()
    run = tiny.fit(module, record)
    assert module.seen == [("fit", epoch, True) for epoch in range(4) for _ in range(3)]
    assert tiny.accelerator(run).head is None
    epochs = [frozenset(i for batch in record.samples[at : at + 3] for i in batch) for at in (0, 3, 6, 9)]
    assert [len(one) for one in epochs] == [12] * 4
    assert len(set(epochs)) == 4


@pytest.mark.parametrize("method", METHODS)
def test_after_the_handover_the_losses_are_those_of_the_plain_forward(method):
    """Handed over at once, on all of the data: step by step what the same module does on the same batches by itself."""
    batches = []

    class Keep(tiny.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batches.append(batch)

    record = tiny.Record()
    module = accelerate(tiny.module(method), tiny.rela(handover=0.0))
    tiny.fit(module, Keep(), record, data=_data(method), max_epochs=1)

    plain, again = tiny.module(method), tiny.Record()
    replay = torch.utils.data.DataLoader(batches, batch_size=None)
    tiny.fit(plain, again, data=replay, max_epochs=1)
    assert again.losses == record.losses
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


def test_features_made_by_a_function_or_a_part_further_in():
    losses = []
    for features in ("backbone", "inside.network", lambda module, x: module.inside.network(x)):
        torch.manual_seed(0)
        module = tiny.module(inside=tiny.Tokens())
        module.backbone = module.inside.network
        record = tiny.Record()
        tiny.fit(accelerate(module, tiny.rela(), features=features), record, max_epochs=2)
        losses.append(record.losses)
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow
def test_a_compiled_module_trains_the_same():
    losses = []
    for compiled in (False, True):
        module, record = accelerate(tiny.module("byol"), tiny.rela()), tiny.Record()
        if compiled:
            module.compile(backend="eager")
        tiny.fit(module, record)
        losses.append(record.losses)
    assert losses[0] == losses[1]
