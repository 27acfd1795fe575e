"""What the package says reaches the user, once, from one process, and never where logging is the user's own."""

import logging
import os
import subprocess
import sys

import pytest

from rela_zoo._io.log import logger

SPEAK = "from rela_zoo._io.log import logger, speak; log = logger('rela_zoo.x'); "


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, **environment}, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def test_it_is_silent_until_a_program_lets_it_speak():
    out, err = run(
        SPEAK + "log.info('a'); speak(); speak(); log.info('b'); speak('stderr'); log.info('c'); speak(); log.info('d')"
    )
    assert out.split() == ["b"]
    assert err.split() == ["c", "d"]


def test_the_users_own_logging_is_left_alone():
    out, err = run(
        "import logging; logging.basicConfig(format='mine %(message)s'); " + SPEAK + "speak(); log.info('a')"
    )
    assert (out, err.strip()) == ("", "mine a")


def test_loggers_that_hydra_has_switched_off_speak_again():
    code = SPEAK + (
        "import logging.config; logging.config.dictConfig({'version': 1, 'disable_existing_loggers': True}); "
        "log.info('a'); speak(); log.info('b')"
    )
    assert run(code)[0].split() == ["b"]


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_other_processes_say_only_what_is_wrong(variable):
    out, _ = run(SPEAK + "speak(); log.info('a'); log.error('b')", **{variable: "1"})
    assert out.split() == ["b"]


def test_a_code_page_without_the_characters_stops_nothing():
    out, _ = run(SPEAK + "speak(); log.info('10 × 20 → here')", PYTHONIOENCODING="ascii")
    assert out.strip() == "10 ? 20 ? here"


def test_a_logger_has_one_filter_however_often_it_is_asked_for():
    assert logger("rela_zoo.y") is logger("rela_zoo.y") is logging.getLogger("rela_zoo.y")
    assert len(logger("rela_zoo.y").filters) == 1
