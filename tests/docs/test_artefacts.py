"""The snippets of docs/artefacts.md run as they are written, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rela_zoo import TargetTransport, embed, fit_transport, load_prior, open_embeddings
from rela_zoo.hub.publish import Details, publish
from rela_zoo.remote import create_key

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "artefacts.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_snippets_run(hub: Any, make_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    make_folder(tmp_path / "images", {"a": 12, "b": 12})
    table = embed(load_prior("cifar10-resnet20"), tmp_path / "images", "embeddings", progress=False)
    fit_transport(table, progress=False).save("transport.safetensors")
    details = Details(id="home-made")
    create_key("key")
    publish("org/home-made", entry="cifar10-resnet20", details=details, embeddings={"zoo": table.path}, sign=["key"])
    for name in ("rela_zoo.json", "rela_zoo.sig"):
        Path(name).write_bytes(hub.store.repos["model", "org/home-made"].head.files[name].data)
    names: dict[str, Any] = {}
    assert len(SNIPPETS) == 4
    for snippet in SNIPPETS:
        exec(snippet, names)
    rows = open_embeddings("embeddings").rows(range(24))
    assert names["ids"] == list(table.ids) == list(names["published"]["id"][:])
    np.testing.assert_array_equal(names["rows"], rows.numpy())
    np.testing.assert_array_equal(names["published"]["embedding"][:], rows.numpy())
    assert len(names["nearest"]) == 24
    expected = TargetTransport.load(Path("transport.safetensors"))(rows, dim=8)
    np.testing.assert_allclose(names["targets"], expected.numpy(), rtol=1e-3, atol=1e-3)
