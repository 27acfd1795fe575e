"""Settings for every test."""

import logging
import os
import sys
import tempfile
from pathlib import Path

import pytest

# Tests work on tiny tensors and start processes of their own: more threads would only wait for each other. Set before
# torch is imported, and inherited by those processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where it is installed, stable-pretraining writes down for every Trainer what the machine is; not into the user's home.
os.environ.setdefault("SPT_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rela-zoo-tests-spt"))

# No test asks the public index; those of the Hub set their own.
os.environ["RELA_ZOO_INDEX"] = "none"

# Parts shared by tests of several rooms, imported as `hub_server`.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["hub_server.fixture", "hub_server.zoo", "image_fixtures", "package_fixtures"]


@pytest.fixture
def said(caplog):
    """What the package has told its user, in messages; `said.clear()` forgets them."""
    caplog.set_level(logging.INFO, "rela_zoo")

    class Said:
        def _messages(self):
            return [one.getMessage() for one in caplog.records if one.name.startswith("rela_zoo")]

        def __len__(self):
            return len(self._messages())

        def __getitem__(self, number):
            return self._messages()[number]

        def __str__(self):
            return "\n".join(self._messages())

        def clear(self):
            caplog.clear()

    return Said()
