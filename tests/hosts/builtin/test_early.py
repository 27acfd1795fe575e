"""What is wrong with a configuration is said before torch and Lightning are imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Trainer
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.errors import ConfigError
from rela_zoo.hosts.builtin import compose, names
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.early import check_early
from rela_zoo.hosts.builtin.methods import METHODS
from rela_zoo.hosts.builtin.optim import OPTIMIZERS, SCHEDULERS
from rela_zoo.hosts.builtin.schema import HostConfig

# Runs the command line in a fresh interpreter, and says on the last line which heavy libraries were imported.
COLD = """
import sys
from rela_zoo.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
print(code, *[name for name in ("torch", "lightning", "timm", "torchvision") if name in sys.modules])
"""


def cold(*words: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", COLD, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1], done.stderr


def test_names_are_those_of_the_code() -> None:
    assert tuple(METHODS) == names._METHODS
    assert tuple(name for name, one in METHODS.items() if one.takes_small_crops) == names._TAKE_SMALL_CROPS
    assert set(names._METHOD_KEYS) == {key for one in METHODS.values() for key in one.METHOD_KWARGS}
    assert tuple(OPTIMIZERS) == names.OPTIMIZER_NAMES
    assert SCHEDULERS == names.SCHEDULER_NAMES
    trainer = set(inspect.signature(Trainer.__init__).parameters) - {"self"} - set(HostConfig.model_fields)
    # An older Lightning has fewer.
    assert trainer <= set(names.TRAINER_KEYS)


def test_a_method_that_was_added_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(METHODS["byol"]):
        METHOD_KWARGS = {"my_key": 1}  # noqa: RUF012

    monkeypatch.setitem(METHODS, "mine", Mine)
    assert "mine" in names.method_names()
    assert "mine" in names.small_crop_methods()
    assert "my_key" in names.method_keys()


def test_mistakes_cost_no_import_of_torch(tmp_path: Path) -> None:
    words = ["pretrain", f"data.train_path={tmp_path / 'none'}", "max_epochs=-1", "optimizer.name=adamv"]
    words += ["rela.data_ratio=3", "method=bylo", "+resume_from_checkpoint=nothing.ckpt"]
    last, said = cold(*words)
    assert last == "2"
    assert said.startswith("error: 6 problems in the configuration:")
    for key in ("data.train_path", "max_epochs", "optimizer.name", "rela.data_ratio", "method", "resume_from_check"):
        assert f"- {key}" in said
    assert "did you mean method=byol?" in said


def test_a_misspelt_prior_costs_none_either() -> None:
    last, said = cold("pretrain", "data.train_path=.", "rela.prior=cifar10-resnet2")
    assert last == "2"
    assert "rela.prior" in said
    last, said = cold("pretrain", "data.train_path=.", "rela=cifar10-resnet2")
    assert last == "2"
    assert "did you mean" in said


def test_what_is_right_passes(config: dict[str, Any]) -> None:
    check_early(config)
    check_early({**config, "rela": {"prior": ["self", "random-test_resnet", "cf10"], "data_ratio": 1}})


@pytest.mark.parametrize(
    "change",
    [
        {"max_epochs": 0},
        {"method": "bylo"},
        {"resume_from_checkpoint": "nothing.ckpt"},
        {"data": {"dataset": "custom", "train_path": "nowhere"}},
        {"rela": {"prior": "nothing-like-it"}},
        {"rela": {"data_ratio": True}},
        {"image_size": 7},
    ],
)
def test_it_says_what_the_whole_check_says(config: dict[str, Any], change: dict[str, Any]) -> None:
    found = []
    for one in (check_early, check):
        with pytest.raises(ConfigError) as caught:
            one({**config, **change})
        found.append({(problem.key, problem.fix) for problem in caught.value.problems})
    assert found[0] <= found[1]


def test_config_prints_what_would_be_trained(config: dict[str, Any], folders: Path) -> None:
    words = [f"data.train_path={folders / 'train'}", "max_epochs=7", "rela=cifar10-resnet20"]
    done = CliRunner().invoke(app, ["config", *words])
    assert done.exit_code == 0
    printed = yaml.safe_load(done.stdout)
    assert (printed["max_epochs"], printed["rela"]["prior"]) == (7, "cifar10-resnet20")
    # Images of 24 px; every key has a value, also those that the file leaves out.
    assert [view["crop_size"] for view in printed["augmentations"]] == [32, 32]
    assert (printed["backbone"]["stem"], printed["logs"]["csv"]) == ("cifar", True)
    missing = CliRunner().invoke(app, ["config", "data.train_path=nowhere"])
    assert missing.exit_code == 0
    assert yaml.safe_load(missing.stdout)["augmentations"][0]["crop_size"] == "auto"
    assert "data.train_path is nowhere" in missing.stderr


def test_a_printed_configuration_trains_the_same(config: dict[str, Any], folders: Path, tmp_path: Path) -> None:
    from rela_zoo.hosts.builtin.config import fill_defaults, run_digest

    words = [f"data.train_path={folders / 'train'}", "optimizer.batch_size=8", "accelerator=cpu"]
    (tmp_path / "kept.yaml").write_text(CliRunner().invoke(app, ["config", *words]).stdout)
    digests = [
        run_digest(fill_defaults(check(cfg).config))
        for cfg in (compose.compose("byol", None, words), compose.compose("kept", tmp_path, []))
    ]
    assert digests[0] == digests[1]
