from __future__ import annotations

import subprocess
import sys

import pytest

from rela_zoo._io import paths
from rela_zoo.errors import RegistryError, UnknownPriorError
from rela_zoo.registry import HUB_ENTRY_FILE, EntryError, list_priors, packaged_priors, prior_spec

REFERENCE_NAMES = {
    "cf10": "cifar10-byol-resnet18",
    "cf100": "cifar100-byol-resnet18",
    "tin": "tiny-imagenet-byol-resnet18",
    "in1k": "imagenet1k-byol-resnet50",
    "in21k": "imagenet21k-miil-resnet50",
    "in21k_mb": "imagenet21k-mobilenetv3",
    "clip": "clip-rn50",
    "clip_101": "clip-rn101",
    "clip_t4": "clip-rn50x4",
    "clip_b32": "clip-vit-b32",
    "clip_b16": "clip-vit-b16",
    "clip_l14": "clip-vit-l14",
    "yolov9": "yolov9",
    "random": "random",
    "rand": "random",
}


@pytest.mark.parametrize(("name", "expected"), REFERENCE_NAMES.items())
def test_the_names_of_the_reference(name, expected):
    assert prior_spec(name).id == expected


def test_lookup_ignores_case_and_finds_ids():
    assert prior_spec("CLIP-ViT-B16") is prior_spec("clip_b16")


def test_a_wrong_name_suggests_the_nearest():
    with pytest.raises(UnknownPriorError) as error:
        prior_spec("clip-vit-b61")
    assert error.value.fix is not None
    assert error.value.fix.startswith("did you mean clip-vit-b16")
    with pytest.raises(UnknownPriorError, match="rela-zoo list"):
        prior_spec("qqqqqqqqqqq")


def test_the_user_directory_adds_priors(entry, write):
    write({**entry, "aliases": ["mine"]})
    assert prior_spec("my-prior") == prior_spec("mine")
    ids = [spec.id for spec in list_priors()]
    assert "my-prior" in ids
    assert ids == sorted(ids)


def test_a_changed_entry_is_read_again(entry, write):
    write(entry)
    assert prior_spec("my-prior").dim == 512
    path = write({**entry, "dim": 64})
    assert prior_spec("my-prior").dim == 64
    path.unlink()
    with pytest.raises(UnknownPriorError):
        prior_spec("my-prior")


@pytest.mark.parametrize("names", [{"id": "clip-vit-b16"}, {"aliases": ["cf10"]}, {"aliases": ["dino-vit-s8"]}])
def test_a_private_entry_never_shadows_a_packaged_name(entry, write, names):
    path = write({**entry, **names})
    for name in (path, path.stem):
        with pytest.raises(EntryError, match="names the packaged prior"):
            prior_spec(name)
    assert prior_spec("random").id
    assert [spec.id for spec in list_priors()] == sorted(spec.id for spec in packaged_priors())


def test_a_wrong_entry_hides_nothing_else(entry, write, said):
    write(entry)
    broken = write({**entry, "id": "other", "licence": "none"})
    assert {"my-prior", "clip-vit-b16"} <= {spec.id for spec in list_priors()}
    assert prior_spec("my-prior").id == "my-prior"
    assert f"{broken}: licence" in str(said)
    with pytest.raises(EntryError, match="licence"):
        prior_spec("other")


def test_what_a_terminal_or_a_constructor_must_not_meet(entry, write):
    for wrong, named in (
        ({"title": "A \x1b[31mred one"}, "title"),
        ({"model_args": {"depth": 300000}}, "model_args.depth"),
        ({"notes": ["fine", "\u202e"]}, "notes"),
    ):
        with pytest.raises(EntryError, match=named) as caught:
            prior_spec(write({**entry, **wrong}))
        assert "\x1b" not in str(caught.value)


def test_an_explicit_path_needs_no_registry(entry, write, tmp_path):
    path = write(entry, folder=tmp_path / "elsewhere")
    spec = prior_spec(path)
    assert spec.id == "my-prior"
    assert spec.folder == path.parent.resolve()
    assert prior_spec(str(path)) == spec
    packaged = paths.packaged_registry() / "random.yaml"
    assert prior_spec(packaged).id == "random"


@pytest.mark.parametrize("name", ["nowhere/at-all.yaml", "timm/vit_base_patch16_clip_224.openai", "missing.yml"])
def test_paths_that_lead_nowhere(name):
    with pytest.raises(UnknownPriorError):
        prior_spec(name)


def test_untrained_architectures_by_name():
    spec = prior_spec("random-vit_tiny_patch16_224")
    assert (spec.source, spec.architecture, spec.dim) == ("random", "vit_tiny_patch16_224", None)
    assert spec.preprocessing is None
    assert spec.pinned


@pytest.mark.parametrize("name", ["random-", "random-a/b.yaml", "random-resnet18.a1_in1k", "random-os;x"])
def test_untrained_names_that_can_not_be_an_architecture(name):
    with pytest.raises(UnknownPriorError):
        prior_spec(name)


SHA = "0123456789" * 4


@pytest.mark.parametrize("name", ["hf://me/x", "hf://me/x@main", f"hf://me@{SHA}", f"hf://me/x@{SHA[:-1]}", "hf:me/x"])
def test_hub_names_need_a_full_commit(name):
    with pytest.raises(RegistryError, match="repository and full commit"):
        prior_spec(name)


def test_a_hub_entry_out_of_reach_says_what_is_needed(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    with pytest.raises(UnknownPriorError) as error:
        prior_spec(f"hf://me/x@{SHA}")
    for needed in (HUB_ENTRY_FILE, "me/x", SHA, "hf download"):
        assert needed in str(error.value)


def test_a_hub_entry_from_the_cache_gets_its_own_commit(entry, write, tmp_path, monkeypatch):
    for key in ("repo", "revision", "source"):
        del entry[key]
    path = write(entry, name=HUB_ENTRY_FILE, folder=tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: str(path))
    spec = prior_spec(f"hf://me/x@{SHA}")
    assert (spec.repo, spec.revision, spec.source) == ("me/x", SHA, "hub")

    write({**entry, "repo": "someone/else"}, name=HUB_ENTRY_FILE, folder=tmp_path / "cache")
    other = prior_spec(f"hf://me/x@{SHA}")
    assert (other.repo, other.revision) == ("someone/else", None), "that commit is of another repository"


@pytest.mark.parametrize(
    "change",
    [
        {"source": "callable", "family": "callable", "architecture": "os:getcwd", "file": None, "sha256": None,
         "pin": "none"},
        {"source": "local"},
        {"source": "embedded"},
    ],
)  # fmt: skip
def test_an_entry_from_the_network_runs_no_code_and_reads_no_local_file(entry, write, tmp_path, monkeypatch, change):
    del entry["repo"], entry["revision"]
    path = write({**entry, **change}, name=HUB_ENTRY_FILE, folder=tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: str(path))
    with pytest.raises(EntryError, match="runs no code here"):
        prior_spec(f"hf://me/x@{SHA}")


def test_an_entry_from_the_network_can_not_take_a_packaged_name(entry, write, tmp_path, monkeypatch):
    path = write({**entry, "id": "clip-vit-b16"}, name=HUB_ENTRY_FILE, folder=tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: str(path))
    with pytest.raises(EntryError, match="packaged"):
        prior_spec(f"hf://me/x@{SHA}")


def test_a_missing_packaged_registry_is_no_empty_one(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "packaged_registry", lambda: tmp_path / "gone")
    with pytest.raises(RegistryError, match="registry is missing"):
        list_priors()


def test_listing_loads_no_heavy_library():
    code = (
        "import sys, rela_zoo; assert rela_zoo.list_priors(); rela_zoo.prior_spec('cf10');"
        "heavy = {'torch', 'timm', 'lightning', 'huggingface_hub', 'pyarrow', 'sklearn', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
