"""How nearly independently trained networks share one linear space: the evidence behind the README's paragraph.

    python scripts/shared_space.py --data DIR [--out scripts/results/shared_space]

DIR holds `cifar10/test.parquet` in the layout of the Hub's uoft-cs/cifar10 and the networks
`priors/cifar10-resnet{20,32,44,56}.safetensors`, trained by others (github akamaster/pytorch_resnet_cifar10,
BSD-2-Clause). Compared on the 10,000 test images, which none was trained on, with the shipped prior and two untrained
networks. Takes some minutes on two cores; embeddings are cached, so a second run is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import yaml

from rela_zoo import load_prior
from rela_zoo._io.digest import file_sha256
from rela_zoo.analysis.compare import compare, render_figure
from rela_zoo.data import image_source
from rela_zoo.embeddings import cached_embeddings

DEPTHS = (20, 32, 44, 56)
_PREPROCESSING = {
    "input_size": 32,
    "resize": 32,
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def write_entries(folder: Path, weights: Path) -> list[Path]:
    """Private registry entries for the public networks and for an untrained one of the same kind."""
    entries = []
    for depth in DEPTHS:
        name = f"public-cifar10-resnet{depth}"
        file = weights / f"cifar10-resnet{depth}.safetensors"
        (folder / file.name).symlink_to(file.resolve())
        entries.append(
            {
                "id": name,
                "title": f"Supervised ResNet-{depth} on CIFAR-10, trained by others",
                "source": "local",
                "family": "cifar-resnet",
                "architecture": f"resnet{depth}",
                "dim": 64,
                "file": file.name,
                "sha256": file_sha256(file),
                "pin": "confirmed",
                "licence": "bsd-2-clause",
                "preprocessing": _PREPROCESSING,
                "training_data": "CIFAR-10 train, supervised",
            }
        )
    entries.append(
        {
            "id": "untrained-cifar-resnet20",
            "title": "Untrained CIFAR ResNet-20",
            "source": "random",
            "family": "cifar-resnet",
            "architecture": "resnet20",
            "dim": 64,
            "seed": 1,
            "licence": "not-applicable",
            "preprocessing": _PREPROCESSING,
            "training_data": "none",
        }
    )
    paths = []
    for entry in entries:
        paths.append(folder / f"{entry['id']}.yaml")
        paths[-1].write_text(yaml.safe_dump(entry, sort_keys=False), encoding="utf-8")
    return paths


def main() -> None:
    """Embed, compare, write JSON and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("scripts/results/shared_space"))
    arguments = parser.parse_args()
    source = image_source(str(arguments.data / "cifar10" / "test.parquet"))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        own = [str(path) for path in write_entries(Path(folder), arguments.data / "priors")]
        tables = {}
        for name in (*own[:-1], "cifar10-resnet20", own[-1], "random"):
            prior = load_prior(name)
            print(f"embedding with {prior.spec.id}", file=sys.stderr)
            tables[prior.spec.id] = cached_embeddings(prior, source)
    found = compare(tables, progress="always")
    packages = ("rela-zoo", "torch", "timm", "numpy")
    facts = {
        "command": "python scripts/shared_space.py --data DIR",
        "data": "CIFAR-10 test, 10,000 images re-encoded as JPEG",
        "seconds": round(time.perf_counter() - started),
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in packages},
        },
        **found.as_dict(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "figure.png").write_bytes(render_figure(found))


if __name__ == "__main__":
    main()
