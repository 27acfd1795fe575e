"""Finding solo-learn, the plugin's module and the doctor, without solo-learn."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rela_zoo.hosts.solo_learn import doctor as _doctor
from rela_zoo.hosts.solo_learn import find as _find
from rela_zoo.hosts.solo_learn.find import SoloLearnError, find_solo_learn, require_solo_learn

ROOT = Path(__file__).resolve().parents[3]


def _checkout(folder: Path, hydra: bool = True) -> Path:
    (folder / "solo" / "methods").mkdir(parents=True)
    (folder / "solo" / "methods" / "__init__.py").touch()
    (folder / "solo" / "args").mkdir()
    if hydra:
        (folder / "solo" / "args" / "pretrain.py").touch()
    (folder / "main_pretrain.py").touch()
    return folder


@pytest.fixture
def nowhere(monkeypatch):
    """Not installed, not importable, not named."""
    monkeypatch.delenv("SOLO_LEARN_ROOT", raising=False)
    monkeypatch.setattr(_find, "_installed_from", lambda: (None, None, None))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_none_is_found_and_the_error_has_the_exact_command(nowhere):
    assert find_solo_learn() is None
    with pytest.raises(SoloLearnError) as caught:
        require_solo_learn()
    assert "pip install --no-deps --build-constraint" in str(caught.value)
    assert "9187ea39" in str(caught.value)
    assert "SOLO_LEARN_ROOT" in str(caught.value)


def test_a_checkout_named_by_the_variable(nowhere, monkeypatch, tmp_path):
    monkeypatch.setenv("SOLO_LEARN_ROOT", str(_checkout(tmp_path)))
    found = find_solo_learn()
    assert found is not None
    assert found.checkout == tmp_path
    assert found.commit is None  # no git there
    monkeypatch.setattr(sys, "path", list(sys.path))
    require_solo_learn()
    assert str(tmp_path) in sys.path


def test_a_checkout_beside_the_script_comes_first(nowhere, monkeypatch, tmp_path):
    named, beside = _checkout(tmp_path / "named"), _checkout(tmp_path / "beside")
    monkeypatch.setenv("SOLO_LEARN_ROOT", str(named))
    found = find_solo_learn(beside / "main_pretrain.py")
    assert found is not None
    assert found.package == beside / "solo"


def test_the_old_release_is_refused(nowhere, monkeypatch, tmp_path):
    monkeypatch.setenv("SOLO_LEARN_ROOT", str(_checkout(tmp_path, hydra=False)))
    with pytest.raises(SoloLearnError, match="old release"):
        require_solo_learn()


def test_there_is_no_init_beside_other_hydra_plugins():
    assert not (ROOT / "hydra_plugins" / "__init__.py").exists()
    assert (ROOT / "hydra_plugins" / "rela_zoo" / "search_path.py").is_file()


def test_the_plugin_does_nothing_in_a_program_without_solo_learn(monkeypatch):
    from hydra_plugins.rela_zoo.search_path import RelaZooSearchPathPlugin

    monkeypatch.delitem(sys.modules, "solo.methods", raising=False)
    monkeypatch.setitem(sys.modules, "rela_zoo.hosts.solo_learn", None)  # an import of it would raise
    RelaZooSearchPathPlugin().manipulate_search_path(None)


class TestDoctor:
    def test_a_silent_hub_never_holds_it(self, monkeypatch):
        server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts connections, answers none
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        started = time.monotonic()
        finding = _doctor.check_hub(timeout=0.5)
        server.server_close()
        assert time.monotonic() - started < 5
        assert finding.status == "warning"
        assert finding.mend

    def test_a_name_look_up_that_hangs_neither(self):
        started = time.monotonic()
        assert _doctor._within(0.1, lambda: (threading.Event().wait(5) and "") or "") is None
        assert time.monotonic() - started < 2

    def test_a_hub_that_answers(self, monkeypatch):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"[]")

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert _doctor.check_hub(timeout=5).status == "ok"
        server.shutdown()
        server.server_close()

    def test_offline_is_said(self, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "HF_HUB_OFFLINE" in _doctor.check_hub().found

    def test_missing_solo_learn_is_no_problem_and_names_the_command(self, nowhere):
        finding = _doctor.check_solo_learn()
        assert finding.status == "warning"
        assert "nothing but `rela-zoo run` needs it" in finding.found
        assert "--build-constraint" in finding.mend

    def test_nobody_without_solo_learn_is_told_that_something_is_broken(self, nowhere, monkeypatch, tmp_path):
        from typer.testing import CliRunner

        from rela_zoo.cli import app

        fine = _doctor.Finding("fine", "ok", "there")
        for name in ("check_hub", "check_plugin", "check_gpu"):
            monkeypatch.setattr(_doctor, name, lambda: fine)
        assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
        script = tmp_path / "main_pretrain.py"
        script.touch()
        # Whoever names a script of solo-learn needs it.
        assert CliRunner().invoke(app, ["doctor", str(script)]).exit_code == 1

    def test_another_commit_is_a_warning(self, nowhere, monkeypatch, tmp_path):
        monkeypatch.setenv("SOLO_LEARN_ROOT", str(_checkout(tmp_path)))
        monkeypatch.setattr(_find, "_git_commit", lambda checkout: "0" * 40)
        finding = _doctor.check_solo_learn()
        assert finding.status == "warning"
        assert "9187ea39" in finding.mend

    def test_the_cache_need_not_exist_yet(self, monkeypatch, tmp_path):
        monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "not" / "yet"))
        assert _doctor.check_cache().status in ("ok", "warning")
        (tmp_path / "file").touch()
        monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "file" / "below"))
        assert _doctor.check_cache().status == "problem"

    def test_versions_of_lightning(self, monkeypatch):
        versions = {"lightning": "2.1.2", "torchmetrics": "0.11.4"}
        monkeypatch.setattr(_doctor.metadata, "version", versions.__getitem__)
        assert _doctor.check_lightning().status == "ok"
        versions["torchmetrics"] = "1.9.0"
        assert "main_knn.py" in _doctor.check_lightning().found
        versions["lightning"] = "1.9.5"
        assert _doctor.check_lightning().status == "problem"

    def test_the_command_prints_json_and_fails_for_a_problem(self, nowhere, monkeypatch, tmp_path):
        import json

        from typer.testing import CliRunner

        from rela_zoo.cli import app

        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        (tmp_path / "file").touch()
        monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "file" / "below"))
        result = CliRunner().invoke(app, ["doctor", "--json"])
        assert result.exit_code == 1
        findings = {finding["name"]: finding for finding in json.loads(result.output)}
        assert findings["solo-learn"]["status"] == "warning"
        assert findings["cache"]["status"] == "problem"
        assert set(findings) == {"solo-learn", "lightning", "plugin", "cache", "hub", "gpu"}


def test_run_without_solo_learn_or_script_says_so(nowhere, tmp_path):
    from typer.testing import CliRunner

    from rela_zoo.cli import app

    result = CliRunner().invoke(app, ["run", str(tmp_path / "main_pretrain.py"), "+rela=x"])
    assert result.exit_code != 0
    assert "no such script" in str(result.exception)
    (tmp_path / "main_pretrain.py").touch()
    result = CliRunner().invoke(app, ["run", str(tmp_path / "main_pretrain.py"), "+rela=x"])
    assert "solo-learn was not found" in str(result.exception)
