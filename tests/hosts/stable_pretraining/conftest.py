import sys
from pathlib import Path

import pytest
import torch

# The models are imported by name, also in the processes that DDP starts.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def spt_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(spt_home, tmp_path, monkeypatch):
    """One cache for all tests of the room: the embeddings of the images are made once."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(spt_home))
    spt = pytest.importorskip("stable_pretraining")
    spt.set(cache_dir=str(tmp_path / "spt"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
