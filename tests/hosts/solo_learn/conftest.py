"""The checkout of solo-learn that the tests run, or the reason why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rela_zoo.hosts.solo_learn.find import find_solo_learn

sys.path.insert(0, str(Path(__file__).parent))
from solo_runner import SoloRunner


@pytest.fixture(scope="session")
def solo_checkout() -> Path:
    """The folder of the unmodified checkout; skips, and says why, where there is none."""
    found = find_solo_learn()
    if found is None:
        pytest.skip("solo-learn is neither importable nor named by SOLO_LEARN_ROOT")
    if not found.is_hydra_based:
        pytest.skip(f"the solo-learn at {found.package} is the old release, not configured by Hydra")
    if found.checkout is None or not (found.checkout / "main_pretrain.py").is_file():
        pytest.skip("solo-learn is importable, but not its checkout with main_pretrain.py: set SOLO_LEARN_ROOT")
    return found.checkout


@pytest.fixture(scope="session")
def solo(solo_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> SoloRunner:
    return SoloRunner(solo_checkout, tmp_path_factory.mktemp("solo"))
