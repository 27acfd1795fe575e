"""What was measured and ships with the package: of the schema, small, whole, and of the priors of the registry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rela_zoo._io.digest import file_sha256
from rela_zoo.errors import RegistryError
from rela_zoo.prior import entry_identity, identity_differences
from rela_zoo.registry import (
    PriorSpec,
    ZooResults,
    packaged_priors,
    packaged_results,
    packaged_results_folder,
    prior_spec,
    read_results,
    results_of,
)
from rela_zoo.transport import PriorTransport, TargetTransport

RESULTS = packaged_results()
NAMES = [one.data.name for one in RESULTS]


def test_there_are_some_and_they_are_small() -> None:
    assert {"digits", "cifar10"} <= set(NAMES)
    files = [path for path in packaged_results_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    # Nothing lies there that no results file names.
    named = {one.path_of(kept) for one in RESULTS for kept in transports(one)}
    assert {path.resolve() for path in files if path.suffix == ".safetensors"} == named
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def transports(found: ZooResults) -> list[Any]:
    kept = [one.transport for one in found.priors.values()] + [one.transport for one in found.pairs]
    return [one for one in kept if one is not None]


@pytest.mark.parametrize("found", RESULTS, ids=NAMES)
def test_they_are_of_priors_of_the_registry(found: ZooResults) -> None:
    specs = {spec.id: spec for spec in packaged_priors()}
    assert len(found.priors) >= 5
    for name, own in found.priors.items():
        assert identity_differences(entry_identity(specs[name]), own.identity) == [], name
        assert own.dim == specs[name].dim
        assert results_of(specs[name])
        assert own.knn is not None
    pairs = {(one.source, one.target) for one in found.pairs}
    assert pairs == {(a, b) for a in found.priors for b in found.priors if a != b}


@pytest.mark.parametrize("found", RESULTS, ids=NAMES)
def test_circumstances_stand_beside_them(found: ZooResults) -> None:
    assert found.machines
    for machine in found.machines:
        assert machine.command.startswith("rela-zoo zoo build ")
        assert {"python", "cpu", "cores", "versions"} <= machine.environment.keys()
    assert found.data.argument
    text = (packaged_results_folder() / f"{found.data.name}.json").read_text(encoding="utf-8")
    assert re.findall(r"""["'= ]/\w[^"]*""", text) == [], "places of one machine"


@pytest.mark.parametrize("found", RESULTS, ids=NAMES)
def test_their_transports_can_be_used(found: ZooResults) -> None:
    for name, own in found.priors.items():
        if own.transport is None:
            continue
        path = found.path_of(own.transport)
        assert file_sha256(path) == own.transport.sha256
        target = TargetTransport.load(path)
        assert (target.dim, target.max_dim) == (own.dim, own.transport.components)
        assert identity_differences(target.stats.known, own.identity) == [], name
        assert target.stats.source_digest == own.rows_digest
    for pair in found.pairs:
        if pair.transport is None:
            continue
        path = found.path_of(pair.transport)
        assert file_sha256(path) == pair.transport.sha256
        between = PriorTransport.load(path)
        assert between.weight.shape == (found.priors[pair.source].dim, found.priors[pair.target].dim)
        assert between.source.digest == found.priors[pair.source].rows_digest
        assert between.quality is not None
        assert between.quality.r2 == pytest.approx(pair.r2, abs=1e-4)
    assert any(one.transport for one in found.pairs)


def test_who_has_seen_the_labels_is_marked() -> None:
    for found in RESULTS:
        marked = {name for name, own in found.priors.items() if own.seen == "labels"}
        assert marked == {name for name in found.priors if found.data.name == "cifar10" and name.startswith("cifar10-")}


def written(folder: Path, **change: Any) -> Path:
    raw = json.loads((packaged_results_folder() / "digits.json").read_text(encoding="utf-8"))
    path = folder / "x.json"
    path.write_text(json.dumps({**raw, **change}))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format"),
        ({"colour": "red"}, "colour"),
        ({"priors": {}}, "pairs of priors that are not measured"),
        ({"machines": []}, "on a machine that is not described"),
    ],
)
def test_what_is_malformed_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RegistryError, match=f"(?s)holds no results of a zoo.*{says}"):
        read_results(written(tmp_path, **change))


def test_paths_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    raw = json.loads((packaged_results_folder() / "digits.json").read_text(encoding="utf-8"))
    raw["pairs"][0]["transport"] = {"file": "../x.safetensors", "sha256": "a" * 64, "bytes": 1}
    with pytest.raises(RegistryError, match=r"(?s)relative path without '\.\.'"):
        read_results(written(tmp_path, pairs=raw["pairs"]))


def test_numbers_of_other_weights_under_the_same_name_are_not_shown() -> None:
    spec = prior_spec("cifar10-resnet20")
    assert results_of(spec)
    assert results_of(PriorSpec.model_validate({**spec.model_dump(), "sha256": "0" * 64})) == []
