"""Published embeddings: used where they are by this prior, and the same on all ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from huggingface_hub import constants

from rela_zoo.data import image_source
from rela_zoo.engine import _published, plan_rela
from rela_zoo.engine._published import find_published
from rela_zoo.errors import HubError

SHARD = "shard-00001.safetensors"


def test_rows_by_another_prior_are_not_used(zoo, said):
    plan = plan_rela({"prior": zoo.name})
    plan = replace(plan, spec=plan.prior.model_copy(update={"id": "another"}))
    assert find_published(plan, image_source(str(zoo.images / "train"))) is None
    assert "they are by home-made" in str(said)


def test_all_ranks_use_what_the_first_one_chose(zoo, monkeypatch):
    """A rank that is told of a choice asks for nothing of its own; one that can't follow stops the job."""
    plan, source = plan_rela({"prior": zoo.name}), image_source(str(zoo.images / "train"))
    monkeypatch.setattr(_published, "_choose", lambda *a: pytest.fail("chose for itself"))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda box, src: box.__setitem__(0, "toy"))
    assert find_published(plan, source).table.shape == (24, 64)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda box, src: box.__setitem__(0, None))
    assert find_published(plan, source) is None
    for shard in Path(constants.HF_HUB_CACHE).rglob(SHARD):
        shard.resolve().unlink()
    zoo.hub.stop()
    monkeypatch.setattr(dist, "broadcast_object_list", lambda box, src: box.__setitem__(0, "toy"))
    with pytest.raises(HubError):
        find_published(plan, source)
