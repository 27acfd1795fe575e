import sys
from pathlib import Path

import pytest

# The tiny host is imported by name, also in the processes that DDP starts.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(shared_home, monkeypatch):
    """One cache for all tests of the room: the embeddings of the 48 images are made once."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(shared_home))
