"""Every mistake in a configuration is found at once, before anything is trained."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from PIL import Image

from rela_zoo.errors import ConfigError
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.train import train


def put(config: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        config = config[int(part)] if isinstance(config, list) else config.setdefault(part, {})
    config[last] = value


def test_a_good_configuration(config: dict[str, Any], folders: Path) -> None:
    config["data"]["val_path"] = str(folders / "val")
    checked = check(OmegaConf.create(config))
    assert (len(checked.train), len(checked.val)) == (24, 9)


@pytest.mark.parametrize(
    ("key", "value", "problem", "hint"),
    [
        ("method", "bylo", "method", "method=byol"),
        ("optimizer.name", "adamv", "optimizer.name", "optimizer.name=adam"),
        ("scheduler.name", "cosine", "scheduler.name", "warmup_cosine"),
        ("scheduler.name", "step", "scheduler.lr_decay_steps", "60,80"),
        ("backbone.name", "resnet19", "backbone.name", "resnet18"),
        ("backbone.kwargs.img_size", 32, "backbone", "img_size"),
        ("data.dataset", "cifar", "data.dataset", "cifar10"),
        ("data.train_path", "/nowhere/at/all", "data.train_path", "exists"),
        ("data.val_path", "/nowhere/at/all", "data.val_path", "exists"),
        ("data.format", "dali", "data.format", "solo-learn"),
        ("data.fraction", 0.5, "data.fraction", "rela.data_ratio"),
        ("optimizer.batch_size", 25, "optimizer.batch_size", "at most 24"),
        ("optimizer.batch_size", 0, "optimizer.batch_size", "such a number"),
        ("optimizer.lr", -1.0, "optimizer.lr", "such a number"),
        ("optimizer.lr", "fast", "optimizer.lr", "such a number"),
        ("optimizer.kwargs", {"momentum": 0.9}, "optimizer.kwargs.momentum", "remove it"),
        ("max_epochs", 0, "max_epochs", "such a number"),
        ("max_epochs", 1.5, "max_epochs", "such a number"),
        ("max_epochs", None, "max_epochs", "set max_epochs"),
        ("momentum.base_tau", 1.2, "momentum.base_tau", "0.99"),
        ("momentum.final_tau", 0.5, "momentum.base_tau", "exchange"),
        ("devices", "all", "devices", "devices=1"),
        ("devices", 0, "devices", "devices=1"),
        ("seed", -1, "seed", "such a number"),
        ("resume_from_checkpoint", "/nowhere.ckpt", "resume_from_checkpoint", "auto_resume"),
        ("optimiser", {"lr": 1}, "optimiser", "did you mean optimizer"),
        ("rela", {"views_on": "device"}, "rela.views_on", "data.views_on=device"),
        ("rela", {"cache": "memory"}, "rela.cache", "data.cache=memory"),
        ("data.train_pth", "x", "data.train_pth", "did you mean data.train_path"),
        ("method_kwargs.proj_hiden_dim", 3, "method_kwargs.proj_hiden_dim", "proj_hidden_dim"),
        ("data", "folder", "data", "section"),
        ("data.no_labels", "no", "data.no_labels", "true or false"),
        ("augmentations.0.color_jiter", {}, "augmentations.0.color_jiter", "color_jitter"),
        ("momentum.classifier", 2, "momentum.classifier", "true or false"),
        ("max_stesp", 3, "max_stesp", "did you mean max_steps"),
        ("augmentations", [], "augmentations", "augmentations"),
        ("rela", {"prior": "clip-vit-b61"}, "rela.prior", "clip-vit-b16"),
        ("rela", {"data_ratio": 1.5}, "rela.data_ratio", "0.2"),
        ("rela", {"data_ratio": 0.2}, "optimizer.batch_size", "raise rela.data_ratio"),
        ("rela", {"prior": "cifar10-resnet20", "embeddings": "/nowhere"}, "rela.embeddings", "embed"),
        ("rela", "clip-vit-b16", "rela", "rela-zoo"),
    ],
)  # fmt: skip
def test_one_mistake(config: dict[str, Any], key: str, value: Any, problem: str, hint: str) -> None:
    put(config, key, value)
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert problem in [one.key for one in caught.value.problems]
    assert hint in "\n".join(str(one) for one in caught.value.problems if one.key == problem)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("foo", 1), ("wandb", {"enabled": False}), ("max_steps", 3), ("data.zzz", 1), ("optimizer.zzz", 1),
        ("method_kwargs.temperature", 0.2), ("method_kwargs.zzz", 1), ("augmentations.0.zzz", 1), ("momentum", None),
        ("max_epochs", 2.0), ("accumulate_grad_batches", None), ("data.fraction", None), ("optimizer.kwargs", None),
        ("name", 7), ("precision", "bf16-mixed"),
    ],
)  # fmt: skip
def test_no_mistake(config: dict[str, Any], key: str, value: Any) -> None:
    """What solo-learn's configurations have and this host does not, and other spellings of the same."""
    put(config, key, value)
    assert len(check(config).train) == 24


def test_views(config: dict[str, Any], make_view: Any) -> None:
    def problems(views: list[dict[str, Any]], method: str = "byol") -> list[str]:
        with pytest.raises(ConfigError) as caught:
            check({**config, "method": method, "backbone": {"name": "resnet18"}, "augmentations": views})
        return [problem.key for problem in caught.value.problems]

    assert problems([make_view(16, 3)]) == ["augmentations"]
    assert problems([make_view(16, 2), make_view(8, 2)], "vicreg") == ["augmentations"]
    assert problems([{**make_view(), "color_jitter": {"prob": 80}}]) == ["augmentations.0.color_jitter.prob"]
    assert problems([{**make_view(), "crop_size": None}]) == ["augmentations.0.crop_size"]
    assert problems([{**make_view(), "rrc": {"enabled": True, "crop_min_scale": 2}}]) == ["augmentations.0.rrc"]


def test_all_at_once_and_nothing_written(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "full").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "full" / "a.png")
    config["data"]["train_path"] = str(tmp_path / "data")
    config.update(method="bylo", max_epochs=0, devices="x", rela={"prior": "nothing-like-it", "data_ratio": 0})
    config["backbone"] = {"name": "resnet19"}
    config["optimizer"]["name"] = "adamv"
    with pytest.raises(ConfigError) as caught:
        train(config)
    assert {problem.key for problem in caught.value.problems} == {
        "method",
        "max_epochs",
        "devices",
        "rela.data_ratio",
        "backbone.name",
        "optimizer.name",
        "data.train_path",
    }
    assert "'empty'" in str(caught.value)
    assert str(caught.value).startswith("7 problems in the configuration")
    assert not (tmp_path / "trained").exists()


def test_differing_classes(config: dict[str, Any], folders: Path, tmp_path: Path) -> None:
    (tmp_path / "val" / "dog").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "dog" / "a.png")
    config["data"]["val_path"] = str(tmp_path / "val")
    with pytest.raises(ConfigError, match="apple, bee, cat, dog"):
        check(config)


def test_classes_are_joined_by_name(config: dict[str, Any], folders: Path, tmp_path: Path) -> None:
    (tmp_path / "val" / "cat").mkdir(parents=True)  # the third class of the training
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "cat" / "a.png")
    config["data"]["val_path"] = str(tmp_path / "val")
    data = check(config)
    assert data.val is not None
    assert (data.val.classes, data.val.target(0)) == (["apple", "bee", "cat"], 2)


def test_of_parquet_too_whose_names_come_in_another_order(config: dict[str, Any], tmp_path: Path) -> None:
    for part, names in (("train", ["r", "g", "b"]), ("val", ["b", "g", "r"]), ("odd", ["r", "x", "b"])):
        write_parquet(tmp_path / f"{part}.parquet", names)
    config["optimizer"]["batch_size"] = 3
    data = config["data"]
    data.update(train_path=str(tmp_path / "train.parquet"), val_path=str(tmp_path / "val.parquet"))
    found = check(config).val
    assert found is not None
    assert found.classes == ["r", "g", "b"]
    assert [found.target(i) for i in range(3)] == [2, 1, 0]
    assert [found[i][-1] for i in range(3)] == [2, 1, 0]
    smaller = found.without([found.source.ids[0]])
    assert [smaller.target(i) for i in range(2)] == [1, 0]
    data["val_path"] = str(tmp_path / "odd.parquet")
    with pytest.raises(ConfigError, match="differing classes: g, x"):
        check(config)


def write_parquet(path: Path, names: list[str]) -> None:
    """One image of each class, numbered in the order of the names."""
    rows = []
    for number in range(len(names)):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": f"{path.stem}{number}.png"})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"label": {"_type": "ClassLabel", "names": names}}
    table = pa.table({"image": pa.array(rows, kind), "label": list(range(len(names)))})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), path)


def test_missing_values_are_named(config: dict[str, Any]) -> None:
    cfg = OmegaConf.create(config)
    cfg.data.train_path = "???"
    del cfg.optimizer.lr
    with pytest.raises(ConfigError) as caught:
        check(cfg)
    assert {problem.key for problem in caught.value.problems} == {"data.train_path", "optimizer.lr"}


def test_a_student_without_pooled_features(config: dict[str, Any]) -> None:
    config["backbone"] = {"name": "resnet10t", "kwargs": {"global_pool": ""}}
    with pytest.raises(ConfigError, match=r"expected features \(batch, dim\)"):
        check(config)


def test_a_subset_too_small_for_two_processes(config: dict[str, Any]) -> None:
    config.update(devices=2, rela={"prior": None, "data_ratio": 0.5})
    with pytest.raises(ConfigError, match="12 samples an epoch, 6 on each of 2 processes"):
        check(config)
