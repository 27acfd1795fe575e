"""Settings for every test."""

import os
import sys
from pathlib import Path

# Tests work on tiny tensors and start processes of their own: more threads would only wait for each other. Set before
# torch is imported, and inherited by those processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asks the public index; those of the Hub set their own.
os.environ["RELA_ZOO_INDEX"] = "none"

# Parts shared by tests of several rooms, imported as `hub_server`.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["hub_server.fixture", "image_fixtures"]
