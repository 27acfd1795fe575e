"""Priors by timm's names in runs: the lock file holds the commit that was meant, and a locked run stays with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save

from rela_zoo.errors import HubError
from rela_zoo.hub import pull

from .test_pull_in_training import _train

NAME = "test_vit.r160_in1k"


def put(hub: Any, seed: int) -> str:
    torch.manual_seed(seed)
    state = timm.create_model("test_vit", num_classes=1000).state_dict()
    return str(hub.store.add(f"timm/{NAME}", {"model.safetensors": save(state)}))


def locked(folder: Path) -> list[dict[str, Any]]:
    return [one for one in json.loads((folder / "rela.lock").read_text())["artefacts"] if one["kind"] == "weights"]


def test_a_run_pins_the_commit_and_a_locked_one_stays_with_it(
    zoo: Any, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rela_zoo.registry._grammar._said", set())  # it is said once a process
    first = put(zoo.hub, 0)
    result = _train(zoo, f"timm:{NAME}")
    (weights,) = locked(result.folder)
    assert (weights["repo"], weights["revision"], weights["path"]) == (f"timm/{NAME}", first, "model.safetensors")
    assert "is not pinned: today it is" in str(said)
    second = put(zoo.hub, 1)
    monkeypatch.setattr("rela_zoo.remote._commits._asked", {})
    zoo.work = tmp_path / "moved"
    assert locked(_train(zoo, f"timm:{NAME}").folder)[0]["revision"] == second
    monkeypatch.setenv("RELA_ZOO_LOCK", str(result.folder / "rela.lock"))
    zoo.work = tmp_path / "again"
    for name in (f"timm:{NAME}", f"timm:{NAME}@main", f"timm:{NAME}@{first}"):
        again = _train(zoo, name)
        assert locked(again.folder) == [weights]
    with pytest.raises(HubError, match=r"other .* than the lock file says"):
        _train(zoo, f"timm:{NAME}@{second}")


def test_weights_are_pulled_by_such_a_name(zoo: Any) -> None:
    commit = put(zoo.hub, 0)
    pulled = pull(f"timm:{NAME}", what=("weights",))
    assert pulled.weights is not None
    assert (pulled.artefacts[0].repo, pulled.artefacts[0].revision) == (f"timm/{NAME}", commit)
