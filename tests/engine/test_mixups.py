"""Every pair of artefacts that differ in one field of the prior's identity is refused wherever the two can meet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.engine import Targets, plan_rela, run_subset
from rela_zoo.engine.targets import _check_prior, _transport
from rela_zoo.errors import ConfigError, EmbeddingsError, RelaZooError, TransportError
from rela_zoo.prior import check_same_prior, entry_identity, identity_differences, identity_digest, prior_identity
from rela_zoo.registry import prior_spec
from rela_zoo.selection.geometry import principal_points
from rela_zoo.selection.geometry.space import TableSpace
from rela_zoo.transport import PriorTransport, TargetTransport, chain, fit_prior_transport, fit_transport, read_in

NAME, ROWS, DIM = "cifar10-resnet20", 120, 64
OWN = prior_identity(prior_spec(NAME))
# Field → another value; in everything else, the name too, the two are alike.
OTHERS: dict[str, Any] = {
    "weights_sha256": "1" * 64,
    "architecture": "cifar-resnet/resnet56",
    "layer": "projection",
    "preprocessing_digest": "2" * 64,
}
IDS = [f"{i:03d}" for i in range(ROWS)]
runner = CliRunner()


def rows_by(folder: Path, seed: int = 0, **changes: Any) -> EmbeddingTable:
    rows = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(seed))
    prior = {**OWN, **changes}
    return write_rows(folder, [rows], IDS, prior=prior, preprocessing="upstream", layer=str(prior["layer"]))


@pytest.fixture
def own(tmp_path: Path) -> EmbeddingTable:
    return rows_by(tmp_path / "own")


@pytest.fixture(params=sorted(OTHERS))
def field(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def other(tmp_path: Path, field: str) -> EmbeddingTable:
    return rows_by(tmp_path / "other", seed=1, **{field: OTHERS[field]})


def refused(field: str, error: type[RelaZooError] = TransportError) -> Any:
    return pytest.raises(error, match=rf"(?s){field}.*expected.*{field}.*got.*{field}")


def test_one_prior_by_two_names_is_one(tmp_path: Path, own: EmbeddingTable) -> None:
    named = rows_by(tmp_path / "named", seed=1, id="by-another-name", revision="3" * 40)
    assert identity_differences(own.info.identity, named.info.identity) == []
    assert identity_digest(own.info.identity) == identity_digest(named.info.identity)
    assert identity_digest(own.info.identity) == identity_digest(OWN)
    plan = plan_rela({"prior": NAME, "embeddings": str(named.path)}).only
    _check_prior(plan, named)


def test_embeddings_and_a_run(own: EmbeddingTable, other: EmbeddingTable, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)rela.embeddings.*{field}"):
        plan_rela({"prior": NAME, "embeddings": str(other.path)})
    plan = plan_rela({"prior": NAME, "embeddings": str(own.path)}).only
    with refused(field, EmbeddingsError):  # rows by address are seen only when they are there
        _check_prior(plan, other)


def test_embeddings_and_a_target_transport(own: EmbeddingTable, other: EmbeddingTable, field: str) -> None:
    file = other.path.parent / "t.safetensors"
    fit_transport(other).save(file)
    plan = plan_rela({"prior": NAME, "embeddings": str(own.path), "transport": str(file)}).only
    with refused(field):
        _transport(plan, own, None)
    out = other.path.parent / "out"
    with refused(field):
        runner.invoke(app, ["transport", "apply", str(file), str(own.path), "--out", str(out)], catch_exceptions=False)
    assert not out.exists()
    # Fitted on other samples of this prior: it fits.
    fit_transport(rows_by(other.path.parent / "same", seed=2)).save(file)
    assert _transport(plan, own, None)[0].dim == DIM


def test_transports_between_priors(own: EmbeddingTable, other: EmbeddingTable, field: str, tmp_path: Path) -> None:
    third = rows_by(tmp_path / "third", seed=2, weights_sha256="4" * 64)
    from_own, from_other = fit_prior_transport(own, third), fit_prior_transport(other, third)
    with refused(field):
        read_in(torch.ones(2, 8), fit_transport(own), from_other)
    to_other = fit_prior_transport(third, other)
    for first, second, source, target in (
        (to_other, from_own, third, third),  # the second does not begin where the first ends
        (from_own, fit_prior_transport(third, own), other, own),  # another source
        (from_own, fit_prior_transport(third, own), own, other),  # another target
    ):
        with refused(field):
            chain(first, second, source, target)
    file = tmp_path / "between.safetensors"
    from_other.save(file)
    loaded = PriorTransport.load(file)
    assert loaded.source == from_other.source
    with refused(field):
        arguments = ["transport", "apply", str(file), str(own.path), "--out", str(tmp_path / "out")]
        runner.invoke(app, arguments, catch_exceptions=False)


def test_files_of_before_know_a_name_and_a_preprocessing(own: EmbeddingTable, tmp_path: Path) -> None:
    fitted = fit_transport(own)
    old = replace(fitted, stats=replace(fitted.stats, identity=None, source_digest="5" * 64))
    old.save(tmp_path / "old.safetensors")
    assert TargetTransport.load(tmp_path / "old.safetensors").stats.identity is None
    plan = plan_rela({"prior": NAME, "embeddings": str(own.path), "transport": str(tmp_path / "old.safetensors")}).only
    assert _transport(plan, own, None)[0].dim == DIM
    for key, value in (("prior", "another"), ("preprocessing", "rela-reference")):
        replace(old, stats=replace(old.stats, **{key: value})).save(tmp_path / "old.safetensors")
        with pytest.raises(TransportError, match="id differs" if key == "prior" else "preprocessing differs"):
            _transport(plan, own, None)


def test_every_field_that_decides_is_in_the_digest(field: str) -> None:
    assert identity_digest({**OWN, field: OTHERS[field]}) != identity_digest(OWN)


def test_preprocessing_makes_another_prior() -> None:
    spec = prior_spec(NAME)
    differ = identity_differences(entry_identity(spec), entry_identity(spec, "rela-reference"))
    assert differ == ["preprocessing_digest"]


def test_names_count_only_where_weights_are_not_known() -> None:
    bare = {"id": NAME, "preprocessing": "upstream"}
    check_same_prior(OWN, bare, "x", error=TransportError)
    with pytest.raises(TransportError, match="id differs"):
        check_same_prior(OWN, {**bare, "id": "another"}, "x", error=TransportError)
    check_same_prior(OWN, {**OWN, "id": "another"}, "x", error=TransportError)


KINDS: dict[str, Any] = {
    "clusters": lambda space: space.clusters(6, 8),
    "centres": lambda space: space.cells(6, 8),
    "duplicates": lambda space: space.duplicates(0.9, 6, 8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_geometry_of_one_prior_is_never_that_of_another(
    own: EmbeddingTable, tmp_path: Path, field: str, kind: str
) -> None:
    """Though the rows are equal to the bit: a file of one, put where the other's belongs, is refused."""
    twin = rows_by(tmp_path / "twin", **{field: OTHERS[field]})
    assert torch.equal(own.rows(range(ROWS)), twin.rows(range(ROWS)))
    everything, paths = np.arange(ROWS), {}
    for name, table in {"own": own, "twin": twin}.items():
        KINDS[kind](TableSpace(table, fit_transport(table), everything, cache=tmp_path / f"{name}-cache"))
        for file in (tmp_path / f"{name}-cache").glob("*.safetensors"):
            with safe_open(file, "numpy") as opened:
                paths[name, json.loads(opened.metadata()["rela_zoo"])["kind"]] = file
    assert paths["own", kind].name != paths["twin", kind].name
    paths["twin", kind].write_bytes(paths["own", kind].read_bytes())
    with pytest.raises(EmbeddingsError, match=r"(?s)not the geometry that is wanted.*table"):
        KINDS[kind](TableSpace(twin, fit_transport(twin), everything, cache=tmp_path / "twin-cache"))


def test_the_space_of_a_selection_is_of_one_prior(
    own: EmbeddingTable, other: EmbeddingTable, field: str, tmp_path: Path
) -> None:
    everything, strange = np.arange(ROWS), fit_transport(other)
    with refused(field):
        TableSpace(own, strange, everything, cache=tmp_path)
    with refused(field):
        principal_points(own, everything, strange, 8)
    targets = Targets(own, strange, everything)
    config = plan_rela({"prior": NAME, "embeddings": str(own.path), "selection": "balanced"}).config
    cpu = torch.device("cpu")
    with refused(field):
        run_subset(config, n=ROWS, seed=0, epochs=1, source=None, targets=targets, device=cpu)


def test_geometry_of_another_data_set(own: EmbeddingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table; a part of it, or another order, is another data set."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    transport = fit_transport(own)
    everything = np.arange(ROWS)
    files = set()
    for positions in (everything, everything[::-1].copy(), everything[: ROWS // 2]):
        TableSpace(own, transport, positions, cache=tmp_path / "cache").clusters(6, 8)
        files = {path.name for path in (tmp_path / "cache").glob("*.safetensors")}
    assert len(files) == 3
    config = plan_rela({"prior": NAME, "embeddings": str(own.path), "selection": "balanced"}).config
    part = Targets(own, transport, everything[: ROWS // 2])
    with pytest.raises(ConfigError, match=r"(?s)120 samples, got 60.*another data set"):
        run_subset(config, n=ROWS, seed=0, epochs=1, source=None, targets=part, device=torch.device("cpu"))
