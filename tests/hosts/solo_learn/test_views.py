"""`rela.views_on` and `rela.cache`: views made where the network is, in both stages."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_methods import VIEW

from rela_zoo.data.batch_views import BatchViews
from rela_zoo.data.statistics import IMAGENET
from rela_zoo.data.views import RELA_VIEW

pytestmark = pytest.mark.solo

# Epochs 0 and 1 are accelerated, 2 and 3 the method's own; two batches an epoch.
RELA = ("+rela=tiny-grid", "rela.data_ratio=0.5", "rela.handover=0.5")
DEVICE = (*RELA, "rela.views_on=device")
SMALL = {**VIEW, "crop_size": 16, "num_crops": 3}
METHODS = {
    "byol": {},
    "dino": {},
    "mae": {},
    "swav": {"augmentations": [VIEW, SMALL]},
}


# What is not the same in a resumption: neither how many workers there are nor where images are held changes a number.
OTHERWISE = {"ep=0": ("memory", 1), "ep=2": ("device", 0)}
KINDS = {"cifar10": 48, "stl10": 48, "imagenet in h5": 32, "custom, fraction": 16, "custom without labels": 32}
RESIZED = {**VIEW, "rrc": {"enabled": False}}


def _changes(solo, name: str, workers: int = 0, **more) -> dict:
    return {
        "name": name,
        "max_epochs": 4,
        "checkpoint": {
            "enabled": True,
            "dir": str(solo.folder / "checkpoints" / name),
            "frequency": 1,
            "keep_prev": True,
        },
        "data": {
            "dataset": "custom",
            "train_path": str(solo.data / "train"),
            "val_path": None,
            "format": "image_folder",
            "num_workers": workers,
        },
        **more,
    }


def _checkpoint(solo, name: str, epoch: str) -> Path:
    (found,) = (solo.folder / "checkpoints" / name).rglob(f"*-{epoch}.ckpt")
    return found


def _good(outcome):
    assert outcome.ok, outcome.error + outcome.output[-3000:]
    return outcome


@pytest.fixture(scope="module")
def runs(solo):
    jobs = {name: solo.job(name, *DEVICE, changes=_changes(solo, name, **more)) for name, more in METHODS.items()}
    jobs["auto, held"] = solo.job(
        "byol", *RELA, "rela.views_on=auto", "rela.cache=auto", changes=_changes(solo, "held")
    )
    jobs["workers"] = solo.job("byol", *RELA, changes=_changes(solo, "workers"))
    return {name: _good(one) for name, one in zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True)}


@pytest.fixture(scope="module")
def resumed(solo, runs):
    jobs = {}
    for name, more in METHODS.items():
        for epoch, (cache, workers) in OTHERWISE.items():
            changes = {**_changes(solo, name, workers, **more), "checkpoint": {"enabled": False}}
            path = f"+resume_from_checkpoint='{_checkpoint(solo, name, epoch)}'"
            jobs[name, epoch] = solo.job(name, *DEVICE, f"rela.cache={cache}", path, changes=changes)
    changes = {**_changes(solo, "byol"), "checkpoint": {"enabled": False}}
    path = f"+resume_from_checkpoint='{_checkpoint(solo, 'byol', 'ep=0')}'"
    jobs["byol", "by workers"] = solo.job("byol", *RELA, path, changes=changes)
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True))


def _expected(solo, batch: dict, entries: list[dict]) -> str:
    """Digest of the views that a batch should have, made here of the files themselves."""
    files = sorted((solo.data / "train").rglob("*.png"))
    arrays = np.stack([np.asarray(Image.open(files[i]).convert("RGB")) for i in batch["indices"]])
    maker = BatchViews(entries, *IMAGENET, seed=5)
    views = maker(torch.from_numpy(arrays).permute(0, 3, 1, 2), torch.tensor(batch["indices"]), batch["epoch"])
    total = hashlib.blake2b(digest_size=8)
    for view in views:
        total.update(view.contiguous().numpy().tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_each_stage_has_its_own_views(solo, runs, method):
    own = METHODS[method].get("augmentations", [{**VIEW, "num_crops": 1 if method == "mae" else 2}])
    milder = [{**RELA_VIEW, "crop_size": 32, "num_crops": own[0]["num_crops"]}]
    batches = runs[method].batches
    assert [batch["stage"] for batch in batches] == ["accelerated"] * 4 + ["own"] * 4
    for batch in batches:
        expected = _expected(solo, batch, milder if batch["stage"] == "accelerated" else own)
        assert batch["pixels"] == expected, batch


def test_samples_and_labels_are_those_of_workers(runs):
    for key in ("epoch", "indices", "labels", "stage", "views", "lr"):
        assert [b[key] for b in runs["byol"].batches] == [b[key] for b in runs["workers"].batches], key
    assert runs["byol"].end["parameters"] != runs["workers"].end["parameters"]


def test_auto_holds_small_images_on_the_device_and_changes_no_number(runs):
    assert [b["loss"] for b in runs["auto, held"].batches] == [b["loss"] for b in runs["byol"].batches]
    assert runs["auto, held"].end["parameters"] == runs["byol"].end["parameters"]
    assert "views   made on cpu; 32 decoded images held on cpu, 98.3 kB" in runs["auto, held"].output


@pytest.mark.parametrize("epoch", OTHERWISE)
@pytest.mark.parametrize("method", METHODS)
def test_resumed_bit_for_bit(runs, resumed, method, epoch):
    whole, again = runs[method], _good(resumed[method, epoch])
    wanted = [b for b in whole.batches if b["epoch"] > int(epoch[-1])]
    for key in ("epoch", "batch", "indices", "pixels", "labels", "stage", "loss"):
        assert [b[key] for b in again.batches] == [b[key] for b in wanted], key
    assert again.end["parameters"] == whole.end["parameters"]


def test_a_resumption_by_workers_is_told_to_be_another_run(runs, resumed):
    other = _good(resumed["byol", "by workers"])
    assert "not bit for bit" in other.output
    assert other.end["parameters"] != runs["byol"].end["parameters"]


@pytest.fixture(scope="module")
def kinds(solo):
    flat, h5 = _flat(solo), _h5(solo)
    settings = {
        "cifar10": ["data.dataset=cifar10"],
        "stl10": ["data.dataset=stl10"],
        "imagenet in h5": ["data.dataset=imagenet", "data.format=h5", f"data.train_path={h5}"],
        "custom, fraction": ["+data.fraction=0.5"],
        "custom without labels": [f"data.train_path={flat}", "+data.no_labels=True"],
    }
    jobs = {}
    for kind, overrides in settings.items():
        for where in ("workers", "device"):
            jobs[kind, where] = solo.job(
                "simclr",
                *RELA,
                *overrides,
                f"rela.views_on={where}",
                f"rela.cache={'none' if where == 'workers' or kind == 'custom, fraction' else 'auto'}",
                "+limit_val_batches=0",
                check_targets=where == "device",
                small_data_sets=True,
            )
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True))


def _h5(solo) -> Path:
    h5py = pytest.importorskip("h5py")
    path = solo.folder / "views.h5"
    with h5py.File(path, "w") as file:
        for image in sorted((solo.data / "train").rglob("*.png")):
            group = file.require_group(image.parent.name)
            group[image.name] = np.frombuffer(image.read_bytes(), dtype=np.uint8)
    return path


def _flat(solo) -> Path:
    folder = solo.folder / "flat-views"
    folder.mkdir()
    for image in (solo.data / "train").rglob("*.png"):
        shutil.copy(image, folder / f"{image.parent.name}-{image.name}")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_its_own_labels_and_images(kinds, kind):
    here, there = _good(kinds[kind, "device"]), _good(kinds[kind, "workers"])
    for key in ("indices", "labels", "stage", "views"):
        assert [b[key] for b in here.batches] == [b[key] for b in there.batches], key
    (found,) = here.rows("targets")
    assert found["samples"] == KINDS[kind]
    assert found["worst"] > 0.9999


@pytest.fixture(scope="module")
def others(solo):
    """Views that the device can't make, views of the method's in both stages, a handover inside an epoch."""
    resized = {"augmentations": [RESIZED], "max_epochs": 2}
    method, auto = "rela.augmentations=method", "rela.views_on=auto"
    jobs = {
        "resized": solo.job("simclr", *DEVICE, changes=resized),
        "resized, workers": solo.job("simclr", *RELA, changes=resized),
        "resized, method": solo.job("simclr", *DEVICE, method, changes=resized),
        "resized, method, auto": solo.job("simclr", *RELA, auto, method, changes=resized),
        "resized, method, auto, device": solo.job("simclr", *RELA, auto, method, "rela.cache=device", changes=resized),
        "method": solo.job("simclr", *DEVICE, method, changes={"max_epochs": 2}),
        "workers, device": solo.job("simclr", *RELA, "rela.cache=device"),
        "inside": solo.job(
            "simclr",
            "+rela=tiny-grid",
            "rela.data_ratio=1.0",
            "rela.handover=0.1",
            "rela.handover_at=step",
            "rela.views_on=device",
            "data.num_workers=1",
            "optimizer.batch_size=4",
            changes={"max_epochs": 3, "augmentations": [RESIZED]},
        ),
        "no prior": solo.job(
            "simclr", "+rela=default", "rela.data_ratio=0.5", "rela.views_on=device", changes={"max_epochs": 1}
        ),
        "listed": solo.job(
            "simclr", *DEVICE, "rela.augmentations=[{crop_size:24,num_crops:2}]", changes={"max_epochs": 2}
        ),
    }
    return dict(zip(jobs, solo.run(*jobs.values(), timeout=600), strict=True))


def test_workers_go_on_with_views_that_the_device_cannot_make(others):
    mixed, plain = _good(others["resized"]), _good(others["resized, workers"])
    assert "Resize instead of RandomResizedCrop" in mixed.output
    assert "in the accelerated stage, by the data loader in the own one" in mixed.output
    same = [a["pixels"] == b["pixels"] for a, b in zip(mixed.batches, plain.batches, strict=True)]
    assert same == [batch["stage"] == "own" for batch in mixed.batches]
    assert {batch["stage"] for batch in mixed.batches} == {"accelerated", "own"}


def test_what_cannot_be_done_at_all_is_refused_where_one_insists(others):
    assert not others["resized, method"].ok
    assert "rela.views_on" in others["resized, method"].error
    auto = _good(others["resized, method, auto"])
    assert "workers go on making views" in auto.output
    assert not others["resized, method, auto, device"].ok
    assert "rela.cache" in others["resized, method, auto, device"].error
    assert not others["workers, device"].ok
    assert "rela.cache" in others["workers, device"].error


def test_the_methods_own_views_in_both_stages(solo, others):
    for batch in _good(others["method"]).batches:
        assert batch["pixels"] == _expected(solo, batch, [VIEW])


def test_a_list_of_views(solo, others):
    for batch in _good(others["listed"]).batches:
        entries = [{"crop_size": 24, "num_crops": 2}] if batch["stage"] == "accelerated" else [VIEW]
        assert batch["pixels"] == _expected(solo, batch, entries)


def test_without_a_prior_it_is_the_methods_own_views(solo, others):
    for batch in _good(others["no prior"]).batches:
        assert batch["stage"] == "own"
        assert batch["pixels"] == _expected(solo, batch, [VIEW])


def test_handover_inside_an_epoch_with_both_kinds_of_batches(solo, others):
    batches = _good(others["inside"]).batches
    stages = [batch["stage"] for batch in batches]
    assert stages == sorted(stages)
    assert stages[:8] == ["accelerated"] * 6 + ["own"] * 2
    for batch in batches:
        if batch["stage"] == "accelerated":
            assert batch["pixels"] == _expected(solo, batch, [{**RELA_VIEW, "crop_size": 32, "num_crops": 2}])


def test_auto_resumer_heeds_where_views_are_made_and_not_where_images_are_held(solo):
    changes = {**_changes(solo, "auto"), "auto_resume": {"enabled": True}}
    quick = {**changes, "checkpoint": {**changes["checkpoint"], "enabled": False}}
    jobs = [
        solo.job("byol", *DEVICE, changes=changes, kill_at=(1, 1)),
        solo.job("byol", *DEVICE, "rela.cache=memory", changes=quick),
        solo.job("byol", *RELA, changes=quick),
    ]
    solo.run(jobs[0])
    held, elsewhere = (_good(one) for one in solo.run(*jobs[1:]))
    assert "Resuming from previous checkpoint" in held.output
    assert held.batches[0]["epoch"] == 1
    assert elsewhere.batches[0]["epoch"] == 0


def test_two_processes(solo):
    job = solo.job(
        "byol",
        *DEVICE,
        "rela.cache=device",
        changes={"max_epochs": 4, "devices": "02", "strategy": "ddp", "sync_batchnorm": False},
    )
    job.arguments.append("optimizer.batch_size=4")
    outcome = _good(solo.run(job)[0])
    assert len(outcome.ranks) == 2
    for rank in (0, 1):
        batches = outcome.rows("batch", rank)
        assert [batch["stage"] for batch in batches] == ["accelerated"] * 4 + ["own"] * 4
        for batch in batches:
            entries = [{**RELA_VIEW, "crop_size": 32, "num_crops": 2}] if batch["stage"] == "accelerated" else [VIEW]
            assert batch["pixels"] == _expected(solo, batch, entries)
    ends = [outcome.rows("end", rank)[-1] for rank in (0, 1)]
    assert ends[0]["averages"] == ends[1]["averages"]
