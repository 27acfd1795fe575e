"""Every public name has an example in its docstring, and the example is true."""

from __future__ import annotations

import doctest
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import rela_zoo

NAMES = sorted(set(rela_zoo.__all__) - {"__version__"})
ENTRY = {
    "id": "mine",
    "title": "A ResNet-20 of one's own",
    "source": "local",
    "family": "cifar-resnet",
    "architecture": "resnet20",
    "dim": 64,
    "file": "mine.safetensors",
    "licence": "mit",
    "preprocessing": {
        "input_size": 32,
        "resize": 32,
        "interpolation": "bilinear",
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.247, 0.2435, 0.2616],
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find in their folder: images of two classes, their embeddings, and an entry of one's own."""
    from rela_zoo._io.paths import packaged_weights

    folder = tmp_path_factory.mktemp("examples")
    draws = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(120):
            pixels = draws.integers(0, 128, (32, 32, 3)) + 96 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / name / f"{number:03d}.png")
    rela_zoo.embed("cifar10-resnet20", folder / "photos", folder / "embeddings")
    spec = rela_zoo.prior_spec("cifar10-resnet20")
    (folder / "mine.yaml").write_text(yaml.safe_dump({**ENTRY, "sha256": spec.sha256, "pin": spec.pin}))
    shutil.copy(packaged_weights() / str(spec.file), folder / "mine.safetensors")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_in_the_docstring(
    name: str, made: Path, tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")
    names: dict[str, Any] = {}
    if name == "pull":
        names["published"] = rela_zoo.publish("org/mine", entry="mine.yaml", embeddings={"photos": "embeddings"}).name
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(getattr(rela_zoo, name), name, module=False, globs=names)
    assert test.examples, "no example in the docstring"
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        result = runner.run(test, out=said.append)
    assert result.attempted
    assert result.failed == 0, "".join(said)
