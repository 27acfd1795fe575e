"""What lies in a published repository: cards, example, entry; and what never gets there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from PIL import Image

from rela_zoo import embed, fit_transport, load_prior
from rela_zoo.embeddings import Index, open_embeddings
from rela_zoo.errors import EmbeddingsError, RegistryError, TransportError, WeightsError
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish import Details, prepare, publish
from rela_zoo.registry import read_entry


def model(hub: Any, repo: str = "org/home-made") -> Any:
    return hub.store.repos["model", repo]


def data(hub: Any, repo: str = "org/home-made-embeddings") -> Any:
    return hub.store.repos["dataset", repo]


def test_the_cards_are_what_the_hub_asks_for(writer: Any, home: Any, send: Any) -> None:
    number = Measurement(
        prior="home-made", measure="linear probe", data="org/zoo", value=0.5, command="run", hub_dataset="org/zoo",
        results="r.json", key=("x",),
    )  # fmt: skip
    details = Details(base_model="org/base", source_datasets=("org/zoo",), arxiv=("2405.14669",))
    send(measured=[number], details=details)
    text = model(writer).head.files["README.md"].data.decode()
    card = ModelCard(text)
    card.validate()
    meta = card.data.to_dict()
    assert meta["library_name"] == "rela-zoo"
    assert {"rela-zoo", "rela-prior"} <= set(meta["tags"])
    assert (meta["license"], meta["base_model"]) == ("mit", "org/base")
    assert meta["pipeline_tag"] == "image-feature-extraction"
    assert "datasets" not in meta, "what it was trained on, and nothing else"
    size = sum((home.embeddings / name).stat().st_size for name in ("ids.jsonl", "shard-00000.safetensors"))
    assert meta["rela_zoo"] == {
        "title": "A ResNet-8 of one's own", "dim": 64, "datasets": {"zoo": {"rows": 20, "bytes": size}}
    }  # fmt: skip
    assert "pip install PATH/TO/rela_zoo " in text
    assert "rela-zoo pull $PRIOR --dataset zoo" in text
    assert "folder `zoo`; 20 rows, " in text
    assert meta["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert "this repository, `model.safetensors`" in text
    assert "https://arxiv.org/abs/2405.14669" in text
    about = data(writer).head.files["README.md"].data.decode()
    ModelCard(about).validate(repo_type="dataset")
    found = yaml.safe_load(about.split("---\n")[1])
    assert found["source_datasets"] == ["org/zoo"]
    assert found["size_categories"] == ["n<1K"]
    assert "image" not in found["tags"], "that would make it a data set of images"
    assert [one.id for one in HfApi().list_models(filter="rela-prior")] == ["org/home-made"]


def test_pictures_never_leave(writer: Any, home: Any, send: Any) -> None:
    Image.new("RGB", (4, 4)).save(home.embeddings / "thumbnail.png")
    with pytest.raises(EmbeddingsError, match=r"thumbnail\.png"):
        send()
    (home.embeddings / "thumbnail.png").unlink()
    (home.embeddings / ".cache").mkdir()
    (home.embeddings / ".cache" / "x").write_bytes(b"pixels")
    with pytest.raises(EmbeddingsError, match=r"\.cache/x"):
        send()
    with pytest.raises(EmbeddingsError):
        send(embeddings={"zoo": home.images})
    assert not writer.store.repos


def test_pixels_can_t_hide_in_a_shard(home: Any, send: Any, writer: Any) -> None:
    """A shard whose header carries something more, under an index that vouches for it."""
    index = json.loads((home.embeddings / "index.json").read_bytes())
    shard = home.embeddings / index["shards"][0]["file"]
    raw = shard.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"]["thumbnail"] = "pixels"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    shard.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    index["shards"][0] |= {"bytes": shard.stat().st_size, "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
    index["digest"] = Index.model_validate(index).content_digest()
    (home.embeddings / "index.json").write_text(json.dumps(index))
    open_embeddings(home.embeddings, verify="full")
    with pytest.raises(EmbeddingsError, match="holds more than a shard's"):
        send()


def test_artefacts_of_another_prior_are_refused(writer: Any, home: Any, send: Any, tmp_path: Path) -> None:
    other = embed(load_prior("cifar10-resnet20"), home.images, tmp_path / "other", progress=False)
    with pytest.raises(EmbeddingsError, match="not by the prior"):
        send(embeddings={"zoo": other.path}, transports={})
    fit_transport(other, max_dim=4, progress=False).save(tmp_path / "t.safetensors")
    with pytest.raises(TransportError, match=r"(?s)for another prior: weights_sha256.*cifar10-resnet20"):
        send(transports={"zoo": tmp_path / "t.safetensors"})
    reference = embed(
        load_prior("cifar10-resnet20", preprocessing="rela-reference"), home.images, tmp_path / "ref", progress=False
    )
    details = Details(id="renamed")
    done = publish("org/b", entry="cifar10-resnet20", details=details, embeddings={"ref": reference.path}, dry_run=True)
    assert done.plan.dataset is not None
    for name in ("../up", "a/b", "", ".hidden"):
        with pytest.raises(EmbeddingsError, match="can't name a data set"):
            send(embeddings={name: home.embeddings}, transports={})
    with pytest.raises(RegistryError, match="can't be"):
        send(details=Details(mean=(0.5, 0.5, 0.5), std=(0.0, 1.0, 1.0)))
    assert not writer.store.repos


def test_a_module_is_published_without_its_code(
    writer: Any, home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\nimport torch\ndef make():\n    torch.manual_seed(1)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))\n"
    )
    monkeypatch.chdir(tmp_path)
    details = Details(id="own-net", licence="mit", input_size=32)
    entry = prepare(tmp_path, module="own_net:make", details=details)
    table = embed(load_prior(entry), home.images, tmp_path / "e", progress=False)
    done = publish("org/own", module="own_net:make", details=details, embeddings={"zoo": table.path})
    assert "own_net" not in " ".join(model(writer, "org/own").head.files)
    path = Path(HfApi().hf_hub_download("org/own", "prior.yaml", revision=done.commit))
    spec = read_entry(path, hub=("org/own", done.commit))
    assert (spec.source, spec.family, spec.dim) == ("hub", "external", 6)
    with pytest.raises(WeightsError, match="can't be loaded") as refused:
        load_prior(spec)
    assert "published embeddings" in str(refused.value)
    assert b"can't build the network" in model(writer, "org/own").head.files["README.md"].data


def test_embeddings_of_weights_that_stay_elsewhere(writer: Any, home: Any, tmp_path: Path) -> None:
    """A timm model: no weights are sent, the entry names them where timm has them."""
    import timm
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3)
    commit = writer.store.add("timm/resnet18.a1_in1k", {"model.safetensors": save(network.state_dict())})
    details = Details(id="timm-one", input_size=32)
    entry = prepare(tmp_path, timm="resnet18.a1_in1k", details=details)
    table = embed(load_prior(entry, strict=True), home.images, tmp_path / "e", progress=False)
    done = publish("org/timm-one", timm="resnet18.a1_in1k", details=details, embeddings={"zoo": table.path})
    assert not [path for path in model(writer, "org/timm-one").head.files if path.endswith(".safetensors")]
    raw = yaml.safe_load(model(writer, "org/timm-one").head.files["prior.yaml"].data)
    assert (raw["source"], raw["repo"], raw["revision"]) == ("timm", "timm/resnet18.a1_in1k", commit)
    card = ModelCard(model(writer, "org/timm-one").head.files["README.md"].data.decode())
    assert card.data.base_model == "timm/resnet18.a1_in1k"
    assert card.data.license == "apache-2.0"
    assert done.tag == "v1"


@pytest.mark.parametrize("what", ["all", "embeddings", "weights"])
def test_the_example_runs(what: str, writer: Any, send: Any, tmp_path: Path) -> None:
    less = {"all": {}, "embeddings": {"transports": {}}, "weights": {"transports": {}, "embeddings": {}}}[what]
    done = send(**less)
    example = tmp_path / "example.py"
    example.write_bytes(model(writer).head.files["example.py"].data)
    ran = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert f"hf://org/home-made@{done.commit} | A ResNet-8 of one's own | mit" in ran.stdout
    expected = "features (1, 64) finite: True" if what == "weights" else "targets (8, 8)"
    assert expected in ran.stdout
    again = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "E,F,B", "--line-length", "120", str(example)]
    )
    assert again.returncode == 0
