"""The plugin as a user meets it: discovered by an unmodified script, or not, and what then keeps a baseline away."""

from __future__ import annotations

import json
import subprocess

import pytest

pytestmark = pytest.mark.solo

QUIET = ({"override hydra/hydra_logging": "disabled"}, {"override hydra/job_logging": "disabled"})


def _pretrain(solo, config, *overrides, launcher=False, **environment):
    script = str(solo.checkout / "main_pretrain.py")
    words = ["-m", "rela_zoo", "run", script] if launcher else [script]
    return solo.command(*words, *solo.arguments(config, *overrides), **environment)


@pytest.fixture(scope="module")
def config(solo):
    return solo.config("simclr", "plugin", max_epochs=1)


def test_an_unmodified_script_trains_with_a_prior_by_name(solo, config):
    done = _pretrain(solo, config, "+rela=tiny-grid", "rela.data_ratio=0.5")
    assert done.returncode == 0, done.stdout
    assert "rela_zoo is active · prior tiny-grid" in done.stdout
    assert "0.5 of 32 samples: 16 in each epoch" in done.stdout
    assert "accelerated first; handover adaptive" in done.stdout


def test_a_prior_in_the_defaults_list_of_the_users_own_yaml(solo):
    defaults = [{"rela": "tiny-grid"}, "_self_", *QUIET]
    named = solo.config("simclr", "in-defaults", defaults=defaults, rela={"data_ratio": 0.5}, max_epochs=1)
    composed = _pretrain(solo, named, "--cfg", "job")
    assert composed.returncode == 0, composed.stdout
    section = composed.stdout.partition("\nrela:\n")[2]
    assert "prior: tiny-grid" in section
    assert "data_ratio: 0.5" in section
    assert "handover: adaptive" in section


@pytest.fixture(scope="module")
def mistakes(solo):
    everything = ["+rela=default", "rela.prior=tiny-gird", "rela.data_ratio=2", "rela.head=thawed"]
    jobs = {
        "many": solo.job("simclr", *everything, "+data.fraction=0.5", "data.dataset=cifar10"),
        "unknown prior": solo.job("simclr", "+rela=default", "rela.prior=tiny-gird"),
        "unknown entry": solo.job("simclr", "+rela=tiny-gird"),
        "bare string": solo.job("simclr", changes={"rela": "tiny-grid"}),
        "deepclusterv2": solo.job("deepclusterv2", "+rela=tiny-grid", "rela.handover_at=step"),
        "wmse": solo.job("wmse", "+rela=tiny-grid", "method_kwargs.whitening_size=3"),
        "too few samples": solo.job("simclr", "+rela=tiny-grid", "rela.data_ratio=0.2"),
        # solo-learn's own files have _self_ first.
        "file's own keys": solo.job(
            "simclr",
            "rela.handover=0.5",
            changes={
                "defaults": ["_self_", {"rela": "tiny-grid"}, *QUIET],
                "rela": {"data_ratio": 0.5, "head": "mlp", "handover": 0.25},
            },
        ),
    }
    return dict(zip(jobs, solo.run(*jobs.values()), strict=True))


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("many", ["rela.data_ratio", "rela.head", "data.fraction"]),
        ("unknown prior", ["rela.prior", "tiny-grid"]),
        ("unknown entry", ["rela/tiny-gird"]),
        ("bare string", ["bare string", "rela-zoo run"]),
        ("deepclusterv2", ["rela.data_ratio", "rela.handover_at"]),
        ("wmse", ["method_kwargs.whitening_size"]),
        ("file's own keys", ["2 problems", "rela.data_ratio: expected 0.5", "rela.head", "_self_", "command line"]),
        ("too few samples", ["rela.data_ratio", "less than one batch of 8"]),
    ],
)
def test_mistakes_are_refused_before_training_all_at_once(mistakes, name, texts):
    outcome = mistakes[name]
    assert not outcome.ok
    assert not outcome.ranks
    for text in texts:
        assert text in outcome.error


class TestUndiscovered:
    """Another package's `hydra_plugins/__init__.py` hides ours."""

    def test_the_documented_command_fails_loudly(self, solo, config):
        done = _pretrain(solo, config, "+rela=tiny-grid", "rela.data_ratio=0.5", **solo.without_plugin())
        assert done.returncode != 0
        assert "rela" in done.stdout

    def test_so_does_a_prior_in_the_defaults_list(self, solo):
        named = solo.config("simclr", "undiscovered", defaults=["_self_", {"rela": "tiny-grid"}], max_epochs=1)
        done = _pretrain(solo, named, **solo.without_plugin())
        assert done.returncode != 0
        assert "rela/tiny-grid" in done.stdout

    def test_the_launcher_trains_all_the_same_also_in_the_other_processes_of_ddp(self, solo):
        two = solo.config("simclr", "launched", max_epochs=1, devices="02", strategy="ddp", sync_batchnorm=False)
        overrides = ["+rela=tiny-grid", "rela.data_ratio=0.5"]
        # A second process that did not know the group would fail to compose, and take the first down with it.
        done = _pretrain(solo, two, *overrides, launcher=True, **solo.without_plugin())
        assert done.returncode == 0, done.stdout
        assert "rela_zoo is active · prior tiny-grid" in done.stdout

    def test_doctor_names_the_file_and_the_way_out(self, solo):
        done = solo.command("-m", "rela_zoo", "doctor", "--json", **solo.without_plugin())
        assert done.returncode == 1, done.stdout
        finding = {f["name"]: f for f in json.loads(done.stdout)}["plugin"]
        assert finding["status"] == "problem"
        assert "hydra_plugins/__init__.py" in finding["found"].replace("\\", "/")
        assert "rela-zoo run" in finding["mend"]


def test_doctor_finds_everything_in_place(solo):
    done = solo.command("-m", "rela_zoo", "doctor", "--json", SOLO_LEARN_ROOT=str(solo.checkout))
    findings = {f["name"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert findings["plugin"]["status"] == "ok"
    assert findings["solo-learn"]["status"] in ("ok", "warning")
    head = subprocess.run(
        ["git", "-C", str(solo.checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert not head or head[:8] in findings["solo-learn"]["found"]


def test_the_plugin_is_light_and_idle_in_other_programs(solo):
    code = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance();"
        "from hydra import compose, initialize_config_dir;"
        "context = initialize_config_dir(sys.argv[1], version_base='1.2'); context.__enter__();"
        "compose('plugin');"
        "assert 'hydra_plugins.rela_zoo.search_path' in sys.modules;"
        "heavy = [m for m in ('torch', 'rela_zoo', 'solo') if m in sys.modules];"
        "assert not heavy, heavy"
    )
    done = solo.command("-c", code, str(solo.config("simclr", "plugin", max_epochs=1).parent))
    assert done.returncode == 0, done.stdout


@pytest.mark.solo
@pytest.mark.parametrize("debug", [False, True])
def test_a_mistake_in_the_section_is_a_message_and_no_traceback(solo, debug):
    config = solo.config("simclr", "mistake", max_epochs=1, checkpoint={"enabled": False})
    script = str(solo.checkout / "main_pretrain.py")
    words = solo.arguments(config, "+rela=tiny-grid", "rela.data_ratio=2")
    more = {"RELA_ZOO_DEBUG": "1"} if debug else {}
    done = solo.command("-W", "ignore", "-m", "rela_zoo", "run", script, *words, **more)
    assert done.returncode == (1 if debug else 2), done.stdout
    assert "rela.data_ratio: expected a number in (0, 1], got 2" in done.stdout
    assert ("Traceback" in done.stdout) == debug, done.stdout
