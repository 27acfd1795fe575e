import sys
from pathlib import Path

import pytest
import torch

# The module is imported by name, also in the processes that DDP starts.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def lightning_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(lightning_home, monkeypatch):
    """One cache for all tests of the room: the embeddings of the images are made once."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(lightning_home))
    torch.set_num_threads(1)
