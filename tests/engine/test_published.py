"""Published embeddings: used where they are by this prior, and the same on all ranks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from huggingface_hub import constants
from PIL import Image

from rela_zoo.data import image_source
from rela_zoo.embeddings import embed
from rela_zoo.engine import _published, plan_rela
from rela_zoo.engine._published import find_published
from rela_zoo.engine.targets import resolve_targets
from rela_zoo.errors import EmbeddingsError, HubError, WeightsError
from rela_zoo.prior import identity_digest, prior_identity
from rela_zoo.registry import prior_spec
from rela_zoo.transport import fit_transport

SHARD = "shard-00001.safetensors"


def test_rows_by_another_prior_are_not_used(zoo, said):
    plan = plan_rela({"prior": zoo.name}).only
    plan = replace(plan, spec=plan.spec.model_copy(update={"id": "another"}))
    assert find_published(plan, image_source(str(zoo.images / "train"))) is None
    assert "they are by home-made" in str(said)


def test_all_ranks_use_what_the_first_one_chose(zoo, monkeypatch):
    """A rank that is told of a choice asks for nothing of its own; one that can't follow stops the job."""
    plan, source = plan_rela({"prior": zoo.name}).only, image_source(str(zoo.images / "train"))
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


def _publish_sets(zoo, sets, spec_name="cifar10-resnet20"):
    """Embeddings by a packaged prior, in a data-set repository of anybody's, listed in the index by identity."""
    from rela_zoo.prior import load_prior

    files = {}
    for name, folder in sets.items():
        table = embed(load_prior(spec_name), str(folder), zoo.work / name, progress=False)
        files |= {f"{name}/{file}": (table.path / file).read_bytes() for file in table.files}
        fit_transport(table, max_dim=4).save(zoo.work / f"{name}.safetensors")
        files[f"transports/{name}.safetensors"] = (zoo.work / f"{name}.safetensors").read_bytes()
    zoo.hub.store.add("anybody/rows", files, kind="dataset")
    place = {"repo": "anybody/rows", "revision": zoo.commit_of("anybody/rows", "dataset"), "kind": "dataset"}

    def at(path):
        index = f"{path}/index.json" if path + "/index.json" in files else path
        return {**place, "path": path, "sha256": hashlib.sha256(files[index]).hexdigest()}

    listed = {n: {"embeddings": at(n), "transport": at(f"transports/{n}.safetensors")} for n in sets}
    identity = identity_digest(prior_identity(prior_spec(spec_name)))
    index = {"format": 1, "priors": {}, "embeddings": {identity: {"broken": {"embeddings": 3}, **listed}}}
    zoo.hub.store.add("rela-zoo/registry", {"index.json": json.dumps(index).encode()}, kind="dataset")


def _pictures(folder, names, seed):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def no_weights(monkeypatch):
    def refuse(*args, **kwargs):
        raise WeightsError("out of reach")

    monkeypatch.setattr("rela_zoo.prior._load.find_weights", refuse)
    monkeypatch.setattr("rela_zoo.prior.find_weights", refuse, raising=False)


def _resolve(folder, **rela):
    source = image_source(str(folder))
    return resolve_targets(plan_rela({"prior": "cifar10-resnet20", **rela}).only, source, device=torch.device("cpu"))


def test_embeddings_of_a_packaged_prior_are_found_by_who_made_them(zoo, tmp_path, monkeypatch, said):
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    names = [f"a/{i}.png" for i in range(12)]
    mine = _pictures(tmp_path / "mine", names, seed=0)
    _publish_sets(zoo, {"aaa": _pictures(tmp_path / "more", [*names, "b/0.png"], seed=0), "exact": mine})
    targets = _resolve(mine)
    assert "embeddings of exact" in str(said), "exactly these samples, not the first superset"
    assert [(one.kind, one.repo, one.repo_type) for one in targets.artefacts] == [
        ("embeddings", "anybody/rows", "dataset"),
        ("transport", "anybody/rows", "dataset"),
    ]
    (mine / names[0]).unlink()
    fewer = _resolve(mine)
    assert len(fewer.positions) == 11


def test_other_pictures_of_the_same_names_are_not_trained_on(zoo, tmp_path, monkeypatch, said):
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    names = [f"a/{i}.png" for i in range(12)]
    _publish_sets(zoo, {"theirs": _pictures(tmp_path / "theirs", names, seed=0)})
    targets = _resolve(_pictures(tmp_path / "mine", names, seed=1))
    assert "they are of other pictures with the same names (12 of 12" in str(said)
    assert targets.artefacts[0].repo is None, "computed here"


def test_what_can_not_be_checked_is_said_and_can_be_refused(zoo, no_weights):
    plan = plan_rela({"prior": zoo.name}).only  # rows without digests, by weights that are nowhere
    source = image_source(str(zoo.images / "train"))
    with pytest.warns(UserWarning, match="not verified"):
        resolve_targets(plan, source, device=torch.device("cpu"))
    with pytest.raises(EmbeddingsError, match=r"can't be verified, and rela\.verify=required"):
        resolve_targets(plan_rela({"prior": zoo.name, "verify": "required"}).only, source, device=torch.device("cpu"))
