"""A zoo is built cell by cell: what is finished stays, what is not is made, and the numbers are those of the parts."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rela_zoo import PriorTransport, TargetTransport, load_prior, open_embeddings, prior_spec
from rela_zoo.analysis.evaluate import knn_accuracy
from rela_zoo.analysis.zoo import About, build_zoo, estimate, open_data, opened, plan_zoo
from rela_zoo.analysis.zoo._data import seen
from rela_zoo.cli import app
from rela_zoo.data import image_source
from rela_zoo.engine import plan_rela
from rela_zoo.engine.targets import resolve_targets
from rela_zoo.errors import EmbeddingsError, RegistryError
from rela_zoo.registry import read_results
from rela_zoo.transport import fit_prior_transport, judge

CELLS = {"cifar10-resnet20", "one", "two", "cifar10-resnet20--one", "cifar10-resnet20--two", "one--two"}


def records(out: Path) -> dict[str, tuple[int, bytes]]:
    """Every record of a finished cell, with the file's number, which a new file would not keep, and its content."""
    return {
        path.relative_to(out / "cells").as_posix().removesuffix(".json"): (path.stat().st_ino, path.read_bytes())
        for path in sorted((out / "cells").rglob("*.json"))
    }


def test_what_is_measured_is_what_the_parts_measure(small: Any) -> None:
    (found,) = build_zoo(small.plan(), command="rela-zoo zoo build", progress=False)
    assert set(found.priors) == {"cifar10-resnet20", "one", "two"}
    assert {(one.source, one.target) for one in found.pairs} == {
        (a, b) for a in found.priors for b in found.priors if a != b
    }
    rows = {name: open_embeddings(small.out / "rows" / "split" / name / "train") for name in found.priors}
    test = open_embeddings(small.out / "rows" / "split" / "one" / "test")
    assert (len(rows["one"]), len(test)) == (150, 45)
    labels = [np.array([int(name.split("/")[0][-1]) for name in table.ids]) for table in (rows["one"], test)]
    knn = knn_accuracy(rows["one"].rows(range(150)), labels[0], test.rows(range(45)), labels[1], k=20)
    assert found.priors["one"].knn == pytest.approx(knn, abs=1e-4)
    assert found.priors["one"].probe == pytest.approx(1.0, abs=0.1), "classes are colours"
    quality = fit_prior_transport(rows["one"], rows["two"]).quality
    pair = found.pair("one", "two")
    assert pair is not None
    assert quality is not None
    assert (pair.r2, pair.retrieval_at_1) == pytest.approx((quality.r2, quality.retrieval_at_1), abs=1e-4)
    assert found.priors["one"].identity == load_prior(small.priors[1]).identity()
    spectrum = list(found.priors["one"].spectrum.values())
    assert spectrum == sorted(spectrum)
    assert spectrum[-1] == pytest.approx(1.0, abs=1e-3)
    assert found.data.train_images == 150
    assert found.data.classes == 3
    assert read_results(small.out / "results" / "split.json") == found


def test_small_transports_do_what_the_whole_ones_do(small: Any) -> None:
    (found,) = build_zoo(small.plan(small_bytes=64 * 64 * 2), progress=False)
    rows = {name: open_embeddings(small.out / "rows" / "split" / name / "train") for name in found.priors}
    kept = found.priors["one"].transport
    pair = found.pair("one", "two")
    assert kept is not None
    assert pair is not None
    assert pair.transport is not None
    whole = TargetTransport.load(small.out / "transports" / "split" / "one.safetensors")
    leading = TargetTransport.load(found.path_of(kept))
    assert kept.components == leading.max_dim == min(64, whole.max_dim)
    some = rows["one"].rows(range(20))
    np.testing.assert_allclose(leading(some), whole(some, dim=leading.max_dim), atol=0.02)
    assert found.path_of(kept).stat().st_size < 0.7 * (small.out / "transports/split/one.safetensors").stat().st_size
    between = PriorTransport.load(found.path_of(pair.transport))
    assert judge(between, rows["one"], rows["two"]).r2 == pytest.approx(pair.r2, abs=0.01)


def test_a_transport_too_large_is_left_out_of_the_small_results(small: Any) -> None:
    (found,) = build_zoo(small.plan(small_bytes=3 * 64 * 2), progress=False)
    assert all(one.transport is None for one in found.pairs)
    assert {one.transport.components for one in found.priors.values() if one.transport} == {3}


def test_finished_cells_are_never_made_again(small: Any, said: Any) -> None:
    build_zoo(small.plan(), progress=False)
    before = records(small.out)
    assert set(before) == {f"split/{name}" for name in CELLS}
    said.clear()
    build_zoo(small.plan(), progress=False)
    assert records(small.out) == before
    assert said[0] == "6 cells, 0 to be made"
    # Another data set leaves those of the first alone.
    build_zoo(small.plan([small.split, small.whole]), progress=False)
    after = records(small.out)
    assert {name: one for name, one in after.items() if name.startswith("split/")} == before
    assert len(after) == 12


def test_one_cell_is_made_again_alone(small: Any) -> None:
    build_zoo(small.plan(), progress=False)
    before = records(small.out)
    build_zoo(small.plan(cells=["split/one--two"], again=True), progress=False)
    after = records(small.out)
    assert {name for name in before if before[name] != after[name]} == {"split/one--two"}
    digest = open_embeddings(small.out / "rows" / "split" / "one" / "train").digest
    (found,) = build_zoo(small.plan(cells=["*/one"], again=True), progress=False)
    assert {name for name, one in records(small.out).items() if one != after[name]} == {"split/one"}
    assert found.priors["one"].rows_digest == digest, "the same rows"
    with pytest.raises(RegistryError, match=r"(?s)no cell is named 'split/three'.*split/one--two"):
        small.plan(cells=["split/three"])


def test_a_cell_alone_makes_what_it_needs(small: Any) -> None:
    (found,) = build_zoo(small.plan(cells=["split/one--two"]), progress=False)
    assert set(records(small.out)) == {"split/one", "split/two", "split/one--two"}
    assert set(found.priors) == {"one", "two"}


def test_a_damaged_or_missing_file_is_made_again(small: Any) -> None:
    build_zoo(small.plan(), progress=False)
    before = records(small.out)
    (small.out / "transports" / "split" / "one--two.safetensors").write_bytes(b"cut")
    (small.out / "cells" / "split" / "two.json").write_text('{"key": ')
    build_zoo(small.plan(), progress=False)
    after = records(small.out)
    assert {name for name in before if before[name] != after[name]} == {"split/one--two", "split/two"}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from conftest import Small
    from rela_zoo.analysis.zoo import build_zoo, _measure

    def killed(*arguments, {name}=_measure.{name}, count=[0], **more):
        count[0] += 1
        if count[0] == {times}:
            os.kill(os.getpid(), signal.SIGKILL)
        return {name}(*arguments, **more)

    _measure.{name} = killed
    build_zoo(Small(Path({root!r})).plan(), progress=False)
"""


@pytest.mark.parametrize(("name", "times", "left"), [("fit_transport", 2, 1), ("fit_both_ways", 2, 4)])
def test_killed_in_a_cell_it_goes_on_with_that_cell(small: Any, said: Any, name: str, times: int, left: int) -> None:
    code = textwrap.dedent(KILLED).format(
        tests=str(Path(__file__).parent), root=str(small.root), name=name, times=times
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    before = records(small.out)
    assert len(before) == left
    assert not (small.out / "results" / "split.json").exists()
    (found,) = build_zoo(small.plan(), progress=False)
    assert said[0] == f"6 cells, {6 - left} to be made"
    after = records(small.out)
    assert {name: after[name] for name in before} == before
    assert len(found.pairs) == 6


def test_other_images_under_the_same_name_are_another_cell(small: Any) -> None:
    first = small.plan()
    small.root.joinpath("split", "train", "class0", "000.png").unlink()
    assert {one.key for one in first.cells}.isdisjoint(one.key for one in small.plan().cells)


def test_a_fifth_is_held_out_where_there_is_no_test_split(small: Any) -> None:
    (found,) = build_zoo(small.plan([small.whole]), progress=False)
    assert found.data.test == "a fifth of the images"
    assert found.data.test_images == 24
    assert found.priors["one"].knn is not None
    assert not (small.out / "rows" / "whole" / "one" / "test").exists()


def test_data_without_labels_has_no_accuracies(small: Any, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted((small.root / "whole").rglob("*.png")):
        path.rename(flat / path.name)
    (found,) = build_zoo(small.plan([f"flat={flat}"]), progress=False)
    assert found.data.classes is None
    assert found.priors["one"].knn is None
    assert found.priors["one"].rank_me is not None


def test_some_of_the_images_are_chosen_from_all_classes(small: Any) -> None:
    source = image_source(str(small.root / "split" / "train"))
    data = opened(About(name="some", train_images=100), source, None, "some")
    assert len(data.train) == 100
    assert data.train.labels is not None
    counts = np.bincount(data.train.labels)
    assert counts.min() > 20
    assert set(data.train.ids) < set(source.ids)
    again = opened(
        About(name="some", train_images=100), image_source(str(small.root / "split" / "train")), None, "some"
    )
    assert list(again.train.ids) == list(data.train.ids)


def test_whether_a_prior_has_seen_the_data_is_told_from_its_entry() -> None:
    for name, wanted in {
        "cifar10-resnet20": "labels", "cifar10-byol-resnet18": "images", "cifar100-resnet18": "no", "random": "no",
        "yolov9": "unknown", "imagenet1k-efficientnet-lite0": "no",
    }.items():  # fmt: skip
        assert seen(prior_spec(name), ["CIFAR-10"]) == wanted, name
    assert seen(prior_spec("imagenet1k-efficientnet-lite0"), ["ImageNet-1k"]) == "labels"
    assert seen(prior_spec("cifar10-resnet20"), []) == "unknown"


def test_what_is_wrong_is_said_before_anything_is_made(small: Any) -> None:
    with pytest.raises(RegistryError, match=r"(?s)2 of 2 priors can't be had.*no-such.*nor-this"):
        plan_zoo(["no-such", "nor-this"], [open_data(small.split)], small.out)
    with pytest.raises(RegistryError, match="every data set once"):
        small.plan([small.split, small.split])
    with pytest.raises(RegistryError, match="by its name and its place"):
        open_data("photos")
    with pytest.raises(RegistryError, match="no description"):
        open_data(f"Bad Name={small.root}")
    with pytest.raises(EmbeddingsError, match="too few images"):
        open_data(f"few={small.root / 'split' / 'test'}")
    assert not small.out.exists()


def test_the_dry_run_says_cells_time_and_bytes_and_makes_nothing(small: Any) -> None:
    arguments = ["zoo", "build", "--priors", ",".join(small.priors), "--datasets", small.split, "--out", str(small.out)]
    said = CliRunner().invoke(app, [*arguments, "--dry-run"], catch_exceptions=False)
    assert said.exit_code == 0
    assert "split/one--two" in said.output
    assert "6 cells, 0 finished" in said.output
    assert not small.out.exists()
    build_zoo(small.plan(), progress=False)
    planned = estimate(small.plan())
    for one in planned:
        data, _, members = one.name.partition("/")
        made = list((small.out / "transports" / data).glob(f"{members}.safetensors"))
        made += list((small.out / "rows" / data / members).rglob("shard-*"))
        assert one.finished
        # Of a pair there is a second file, for the way back.
        assert one.bytes == pytest.approx(sum(path.stat().st_size for path in made) * (1 + ("--" in members)), rel=0.4)


def test_the_command_builds_publishes_and_is_found(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["zoo", "build", "--priors", ",".join(small.priors), "--datasets", small.split, "--out", str(small.out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results = read_results(small.out / "results" / "split.json")
    (machine,) = results.machines
    assert machine.command == "rela-zoo zoo build --priors cifar10-resnet20,one,two --datasets split=DIR --out OUT"
    assert machine.environment["versions"]["torch"]
    assert (small.out / "cards" / "one.md").is_file()
    assert "20-NN" in (small.out / "cards" / "cifar10-resnet20.md").read_text()
    assert "not published: one: 'one' is untrained" in done.stderr
    index = json.loads((small.out / "index.json").read_bytes())
    (sets,) = index["embeddings"].values()
    assert {"embeddings", "transport", "to"} <= sets["split"].keys()
    # Somebody else, who has nothing but the folder and the images.
    place = done.stdout.strip().split("RELA_ZOO_INDEX=")[1]
    monkeypatch.setenv("RELA_ZOO_HOME", str(small.root / "another"))
    monkeypatch.setenv("RELA_ZOO_MIRROR", str(small.out))
    monkeypatch.setenv("RELA_ZOO_INDEX", place)
    images = image_source(str(small.root / "split" / "train"))
    targets = resolve_targets(plan_rela({"prior": "cifar10-resnet20"}).only, images, device=torch.device("cpu"))
    assert {one.kind for one in targets.artefacts} == {"embeddings", "transport"}
    assert {one.repo for one in targets.artefacts} == {"zoo/cifar10-resnet20"}
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert again.stdout.strip().split("RELA_ZOO_INDEX=")[1] == place, "nothing changed"


def test_what_it_publishes_is_signed(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rela_zoo.errors import RelaZooError
    from rela_zoo.hub import open_address
    from rela_zoo.remote import create_key, require_signature

    key = create_key(tmp_path / "key")
    arguments = ["zoo", "build", "--priors", "cifar10-resnet20", "--datasets", small.split, "--out", str(small.out)]
    with pytest.raises(RelaZooError, match="nowhere"):
        CliRunner().invoke(app, [*arguments, "--sign", str(tmp_path / "nowhere")], catch_exceptions=False)
    assert not small.out.exists(), "before any work"
    done = CliRunner().invoke(app, [*arguments, "--sign", str(tmp_path / "key")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("RELA_ZOO_MIRROR", str(small.out))
    rows = small.out / "datasets" / "zoo" / "cifar10-resnet20"
    commit = (rows / "refs" / "main").read_text()
    with require_signature(key.identity):
        _, artefact = open_address(f"hf://zoo/cifar10-resnet20@{commit}/split")
    assert artefact.signed_by == key.identity
    # By another key it is refused, before any work: nothing that was built is looked at or made again.
    create_key(tmp_path / "other")
    monkeypatch.setattr("rela_zoo.analysis.zoo.build_zoo", lambda *args, **options: pytest.fail("it builds"))
    with pytest.raises(RelaZooError, match=r"(?s)a version that you have not signed.*RELA_ZOO_TRUSTED") as caught:
        CliRunner().invoke(app, [*arguments, "--sign", str(tmp_path / "other")], catch_exceptions=False)
    assert "--replace" not in str(caught.value)


def test_it_is_published_on_the_hub_when_that_is_said(small: Any, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setenv("RELA_ZOO_HOME", str(small.root / "home"))
    arguments = ["zoo", "build", "--priors", "cifar10-resnet20", "--datasets", small.split, "--out", "hf://org"]
    arguments += ["--work", str(small.out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not hub.store.repos
    assert "nothing was sent" in done.stderr
    done = CliRunner().invoke(app, [*arguments, "--yes"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert set(hub.store.repos) == {("dataset", "org/cifar10-resnet20"), ("dataset", "org/registry")}
    assert b"split" in hub.store.repos["dataset", "org/registry"].head.files["index.json"].data
