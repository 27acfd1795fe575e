"""Hydra's sweeps over priors: refused with the words that work, or trained; in worker processes too."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from rela_zoo.errors import ConfigError
from rela_zoo.hosts.solo_learn import refuse_arguments

SWEEP = "+rela=tiny-grid,default"


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["-m", SWEEP, "rela.data_ratio=0.2"], [f"write -m {SWEEP} ++rela.data_ratio=0.2"]),
        (["--multirun", "rela.head=trained", SWEEP, "rela.seed=1"], ["++rela.head=trained", "++rela.seed=1"]),
        (["hydra.mode=MULTIRUN", "+rela=choice(a,b)", "rela.seed=1"], ["++rela.seed=1"]),
        (["+rela=null"], ["~rela"]),
        (["--config-name", "byol", "rela=null"], ["~rela"]),
    ],
)
def test_what_hydra_cannot_compose_is_refused_with_what_to_write(arguments, written):
    with pytest.raises(ConfigError) as caught:
        refuse_arguments(arguments)
    for words in written:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["+rela=tiny-grid", "rela.data_ratio=0.2"],
        ["-m", SWEEP, "++rela.data_ratio=0.2"],
        ["-m", SWEEP, "rela.data_ratio=0.2,0.5"],
        ["-m", SWEEP, "optimizer.lr=0.1", "name=a.rela.b"],
        ["-m", "+rela=tiny-grid", "rela.data_ratio=0.2"],
        ["-m", "rela=tiny-grid,default", "rela.data_ratio=0.2"],
        ["-m", "rela.data_ratio=0.2", "+rela=["],
        ["~rela"],
    ],
)
def test_anything_else_is_left_to_hydra(arguments):
    refuse_arguments(arguments)


def _words(solo, config, *overrides, launcher=False):
    script = str(solo.checkout / "main_pretrain.py")
    return [*(["-m", "rela_zoo", "run"] if launcher else []), script, *solo.arguments(config, *overrides)]


@pytest.mark.solo
@pytest.mark.parametrize("launcher", [False, True])
@pytest.mark.parametrize("overrides", [["-m", SWEEP, "rela.data_ratio=0.5"], ["+rela=null"]])
def test_a_script_says_so_in_one_message(solo, launcher, overrides):
    config = solo.config("simclr", "sweep-refused", max_epochs=1)
    done = solo.command("-W", "ignore", *_words(solo, config, *overrides, launcher=launcher))
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.partition("error: ")[2].count("\n") == 3, done.stdout


@pytest.mark.solo
def test_one_command_trains_with_each_prior(solo):
    config = solo.config("simclr", "sweep", max_epochs=1, checkpoint={"enabled": False})
    sweep = ["-m", SWEEP, "++rela.data_ratio=0.5", f"hydra.sweep.dir={solo.folder / 'sweep'}"]
    done = solo.command(*_words(solo, config, *sweep))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("rela_zoo is active") == 2, done.stdout
    assert done.stdout.count("0.5 of 32 samples") == 2
    assert "prior tiny-grid" in done.stdout


@pytest.mark.solo
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_worker_processes_of_a_launcher_resume_their_own_run_alone(solo, launcher):
    plugin = "hydra_submitit_launcher" if launcher == "submitit_local" else "hydra_joblib_launcher"
    if find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed")
    name, sweep = f"sweep-{launcher}", solo.folder / f"sweep-{launcher}"
    saving = {"enabled": True, "dir": str(solo.folder / "checkpoints" / name), "frequency": 1}
    config = solo.config("simclr", name, max_epochs=1, checkpoint=saving, auto_resume={"enabled": True})
    # Workers unpickle solo-learn's classes before they run any script, as they can where it is installed.
    path = os.pathsep.join([solo.environment()["PYTHONPATH"], str(solo.checkout)])
    first = solo.command(*_words(solo, config, "+rela=tiny-grid", "rela.data_ratio=0.5"), PYTHONPATH=path)
    assert first.returncode == 0, first.stdout
    done = solo.command(
        *_words(
            solo, config, "-m", "+rela=tiny-grid", "++rela.data_ratio=0.5,0.75",
            f"hydra/launcher={launcher}", f"hydra.sweep.dir={sweep}",
        ),
        PYTHONPATH=path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    said = [done.stdout, *(log.read_text() for log in sweep.rglob("*_log.out"))]
    assert sum(text.count("Resuming from previous checkpoint") for text in said) == 1, said
    # What resumes a finished run saves nothing; the other one has made a checkpoint of its own.
    assert len(list((solo.folder / "checkpoints" / name).rglob("args.json"))) == 2
