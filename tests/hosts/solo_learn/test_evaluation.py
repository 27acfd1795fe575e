"""solo-learn's own evaluation scripts read a checkpoint that was trained with `rela`."""

from __future__ import annotations

import pytest
import torch

from rela_zoo.hosts.solo_learn._check import knn_works

pytestmark = pytest.mark.solo


@pytest.fixture(scope="module")
def pretrained(solo):
    folder = solo.folder / "checkpoints" / "for-evaluation"
    changes = {"checkpoint": {"enabled": True, "dir": str(folder), "frequency": 1}}
    rela = ["+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.5"]
    # Ten classes, for solo-learn's evaluation asks for the top five whatever their number.
    overrides = ["data.dataset=cifar10", "+limit_val_batches=0"]
    (outcome,) = solo.run(solo.job("simclr", *rela, *overrides, changes=changes, small_data_sets=True))
    assert outcome.ok, outcome.error
    (checkpoint,) = folder.rglob("*.ckpt")
    return outcome, checkpoint


@pytest.fixture(scope="module")
def evaluated(solo, pretrained):
    _, checkpoint = pretrained
    folder = str(checkpoint.parent)
    knn = f"--dataset cifar10 --train_data_path {solo.data / 'train'} --val_data_path {solo.data / 'val'}"
    knn += " --batch_size 8 --num_workers 0 --k 2 --distance_function euclidean --feature_type backbone"
    knn_arguments = ["--pretrained_checkpoint_dir", folder, *knn.split(), "--temperature", "0.1"]
    jobs = [
        solo.linear_job("simclr", checkpoint),
        # The script moves images to a GPU without asking; the driver lets .cuda() do nothing.
        solo.make_job(knn_arguments, script="main_knn.py", record=False, cuda_is_cpu=True, small_data_sets=True),
    ]
    return dict(zip(["linear", "knn"], solo.run(*jobs), strict=True))


def test_a_linear_probe_reads_every_weight_of_the_network(evaluated, pretrained):
    assert evaluated["linear"].ok, evaluated["linear"].error
    # main_linear loads with strict=False and takes whatever key holds "backbone" or "encoder".
    state = torch.load(pretrained[1], map_location="cpu", weights_only=True)["state_dict"]
    ours = [key for key in state if key.startswith("rela")]
    assert sorted(ours) == ["rela_head.bias", "rela_head.weight"]
    assert not [key for key in ours if "backbone" in key or "encoder" in key]


@pytest.mark.skipif(not knn_works(), reason="solo-learn's k-NN needs torchmetrics<1")
def test_k_nn_reads_it(evaluated):
    assert evaluated["knn"].ok, evaluated["knn"].error
    assert "Result: acc@1=" in evaluated["knn"].output


def test_the_checkpoint_holds_the_state_but_not_the_table(pretrained):
    outcome, path = pretrained
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint["rela"]
    assert state["sampler"]["ratio"] == 0.5
    assert state["handover_step"] == outcome.end["handover_step"] == 3
    assert isinstance(state["embeddings"], str)

    def tensors(value):
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            for part in value.values():
                yield from tensors(part)
        elif isinstance(value, list | tuple):
            for part in value:
                yield from tensors(part)

    assert all(tensor.numel() <= 8 for tensor in tensors(state))
    assert not [t for t in tensors(checkpoint["state_dict"]) if t.shape == (48, 24)]


@pytest.mark.parametrize("format", ["timm", "torchvision"])
def test_its_backbone_is_exported(pretrained, tmp_path, format):
    from safetensors.torch import load_file

    from rela_zoo.prior.export import export_backbone

    _, checkpoint = pretrained
    done = export_backbone(checkpoint, format, tmp_path / "student.safetensors")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    trained = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    scope = {}
    exec("\n".join(done.code), scope)
    loaded = scope["network"].state_dict()
    assert loaded.keys() == load_file(done.path).keys() == trained.keys()
    assert all(torch.equal(loaded[key], trained[key]) for key in trained)
    assert done.metadata["host"] == "solo-learn"
    assert done.metadata["method"] == "simclr"
    assert done.metadata["data_ratio"] == "0.5"
    assert done.metadata["prior"]
    assert done.metadata["stem"] == "cifar"
