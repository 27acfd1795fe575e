"""Cards say what the entries say, in the Hub's terms, and those in model_cards/ are not stale."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rela_zoo.errors import RegistryError
from rela_zoo.hub.cards import DatasetFacts, Measurement, dataset_card, make_cards, model_card, read_measured, zoo_page
from rela_zoo.registry import PriorSpec, packaged_priors

PROJECT = Path(__file__).resolve().parents[3]


def head(card: str) -> dict[str, Any]:
    _, text, _ = card.split("---\n", 2)
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def spec() -> PriorSpec:
    return next(one for one in packaged_priors() if one.id == "clip-vit-b16")


def number(**changes: Any) -> Measurement:
    fields: dict[str, Any] = dict(
        prior="clip-vit-b16", measure="probe", data="pets", value=0.5, command="run it", results="r.json", key=("a",)
    )
    return Measurement(**{**fields, **changes})


def test_the_cards_in_the_project_are_not_stale() -> None:
    folder = PROJECT / "model_cards"
    wanted = make_cards(packaged_priors(), folder, read_measured(folder / "measured.yaml", PROJECT))
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert sorted(there) == sorted(wanted), "run scripts/make_cards.py"
    assert [name for name in wanted if wanted[name] != there[name]] == [], "run scripts/make_cards.py"
    assert len(wanted) == len(packaged_priors()) + 1


def test_the_script_sees_staleness_and_keeps_notes(tmp_path: Path) -> None:
    for name in ("registry", "model_cards", "scripts/results", "rela_zoo/weights"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    cards = tmp_path / "model_cards"
    (cards / "random.md").write_text("edited by hand")
    (cards / "gone.md").write_text("a prior that is no more")
    (cards / "notes" / "clip-rn50.md").write_text("## Mine\n\nKept word for word.\n")
    script = [sys.executable, str(PROJECT / "scripts/make_cards.py"), "--project", str(tmp_path)]

    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [*script, *options], capture_output=True, text=True, cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)}
        )
        return done.returncode, done.stdout

    code, said = run("--check")
    assert code == 1
    assert {line.rpartition("/")[2] for line in said.splitlines()} == {"random.md", "gone.md", "clip-rn50.md"}
    assert (cards / "random.md").read_text() == "edited by hand"
    assert run()[0] == 0
    assert run("--check") == (0, "")
    assert not (cards / "gone.md").exists()
    assert "Kept word for word." in (cards / "clip-rn50.md").read_text()
    assert (cards / "notes" / "clip-rn50.md").read_text() == "## Mine\n\nKept word for word.\n"


@pytest.mark.parametrize("spec", packaged_priors(), ids=lambda spec: spec.id)
def test_the_head_of_every_card_is_what_the_hub_asks_for(spec: PriorSpec) -> None:
    card = model_card(spec)
    found = head(card)
    assert found["library_name"] == "rela-zoo"
    assert found["pipeline_tag"] == "image-feature-extraction"
    assert {"rela-zoo", "rela-prior"} <= set(found["tags"])
    if spec.licence == "other":
        assert found["license"] == "other"
        assert found["license_link"] == spec.licence_link
        assert found["license_name"]
    else:
        assert found.get("license") == {"unstated": "unknown", "not-applicable": None}.get(spec.licence, spec.licence)
    assert found.get("base_model") == spec.repo
    assert "model-index" not in found
    for fact in (spec.title, spec.sha256, spec.revision, spec.training_data, *spec.notes):
        assert fact is None or fact in card
    assert all(f"https://arxiv.org/abs/{paper}" in card for paper in spec.arxiv)


def test_results_become_a_model_index_only_on_a_data_set_of_the_hub(spec: PriorSpec) -> None:
    numbers = [number(hub_dataset="org/pets"), number(data="private", value=0.25), number(prior="other", value=0.75)]
    card = model_card(spec, measured=numbers)
    (entry,) = head(card)["model-index"]
    (result,) = entry["results"]
    assert result["dataset"] == {"type": "org/pets", "name": "pets"}
    assert result["metrics"][0]["value"] == 0.5
    assert "25.0 %" in card
    assert "75.0 %" not in card
    page = zoo_page(packaged_priors(), numbers)
    assert all(f"[{one.id}]({one.id}.md)" in page for one in packaged_priors())
    assert "50.0 %" in page


def test_a_data_set_card_names_prior_rows_and_sources(spec: PriorSpec) -> None:
    tables = [DatasetFacts("pets", 7390, 512, "float16", 7_567_360, "ab" * 32, "upstream", skipped=2)]
    card = dataset_card(spec, tables, repo="me/clip-embeddings", model_repo="me/clip", sources=["org/pets"])
    found = head(card)
    assert found["license"] == "apache-2.0"
    assert found["size_categories"] == ["1K<n<10K"]
    assert found["source_datasets"] == ["org/pets"]
    assert "prior:me/clip" in found["tags"]
    assert "base_model" not in found  # a field of model cards only
    assert "library_name" not in found
    for fact in ("7,390", "512", "float16", "7,567,360", "abababababababab", "no image"):
        assert fact in card


def test_a_number_is_read_and_never_stated(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"runs": [{"name": "a", "x": 0.1}, {"name": "b", "x": 0.2}]}))
    fields = number().model_dump(exclude={"value"}, mode="json") | {"key": ["runs", "name=b", "x"]}
    listed = tmp_path / "measured.yaml"
    listed.write_text(yaml.safe_dump([fields]))
    assert read_measured(listed, tmp_path)[0].value == 0.2
    for wrong, message in (
        ({"value": 0.9}, "states a value itself"),
        ({"key": ["runs", "name=c", "x"]}, "missing at"),
        ({"key": ["runs"]}, "missing at"),
        ({"results": "none.json"}, "missing at"),
        ({"colour": "red"}, "no list of measurements"),
    ):
        listed.write_text(yaml.safe_dump([fields | wrong]))
        with pytest.raises(RegistryError, match=message):
            read_measured(listed, tmp_path)
    (tmp_path / "r.json").write_text('{"x": 87}')
    listed.write_text(yaml.safe_dump([fields | {"key": ["x"]}]))
    with pytest.raises(RegistryError, match="out of range"):
        read_measured(listed, tmp_path)


def test_notes_about_nobody_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "typo.md").write_text("x")
    with pytest.raises(RegistryError, match="no prior"):
        make_cards(packaged_priors(), tmp_path, [])
