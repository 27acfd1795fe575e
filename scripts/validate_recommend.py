"""Does `rela-zoo recommend` put first the priors that ReLA then trains best with? Rank correlations.

    python scripts/validate_recommend.py --data DIR [--on digits|cifar10] [--out DIR] [--seeds 0 1 2]

DIR holds `priors/cifar10-resnet{20,32,44,56}.safetensors`, networks trained by others, and for `--on cifar10` also
`cifar10/{train,test}.parquet` in the layout of the Hub's uoft-cs/cifar10. Each prior is assessed on the training images
(with and without labels), and then trains a ResNet-18: ten epochs on 20 % of the data each, the accelerated stage
throughout, otherwise the settings of `rela-zoo demo`. Spearman's correlation of every measure with the accuracy that is
reached on held-out images, mean over seeds: with 10 labels a class on the 1,437 + 360 digits, where a full probe
saturates (mean of 5 draws), and of the full linear probe on 5,000 + 2,000 images of CIFAR-10. Trainings that are done
are kept in `runs-*.jsonl` and not repeated.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf
from scipy.stats import spearmanr
from shared_space import write_entries

from rela_zoo import embed, fit_transport, load_prior
from rela_zoo.analysis.recommend import ranked, survey
from rela_zoo.data import image_source
from rela_zoo.demo import read_held_out, score, write_digits
from rela_zoo.hosts.builtin.compose import compose, silence_lightning
from rela_zoo.hosts.builtin.train import train


def priors_of(folder: Path, weights: Path) -> dict[str, str]:
    """Name → what `load_prior` takes: the public networks, the shipped one, and untrained ones as controls."""
    own = {path.stem: str(path) for path in write_entries(folder, weights)}
    wide = {
        "id": "untrained-cifar-resnet56",
        "title": "Untrained CIFAR ResNet-56",
        "source": "random",
        "family": "cifar-resnet",
        "architecture": "resnet56",
        "dim": 64,
        "seed": 2,
        "licence": "not-applicable",
        "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
    }
    path = folder / "untrained-cifar-resnet56.yaml"
    path.write_text(yaml.safe_dump(wide, sort_keys=False), encoding="utf-8")
    return {**own, path.stem: str(path), "cifar10-resnet20": "cifar10-resnet20", "random": "random"}


SAMPLE = 2048
CIFAR_IMAGES = {"train": 5000, "test": 2000}
# What is correlated, and the views of the accelerated stage: digits must not be mirrored.
SETTINGS = {
    "digits": ("few_label_accuracy", "method", "scikit-learn's digits, 1,437 + 360 images at 32 px"),
    "cifar10": ("probe_accuracy", "rela", "CIFAR-10 re-encoded as JPEG, 5,000 + 2,000 images, evenly over the files"),
}


def write_cifar(parquet: Path, root: Path) -> tuple[Path, Path]:
    """Write image folders `root/train/<label>/*.png` and `root/test/…`, evenly spaced over the files."""
    import pyarrow.parquet
    from PIL import Image

    for part, count in CIFAR_IMAGES.items():
        table = pyarrow.parquet.read_table(parquet / f"{part}.parquet")
        picks = np.linspace(0, len(table) - 1, count).round().astype(int)
        for index in picks:
            row = table.slice(int(index), 1).to_pylist()[0]
            path = root / part / str(row["label"]) / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB").save(path)
    return root / "train", root / "test"


def train_and_probe(
    name: str, prior: str, seed: int, work: Path, folders: tuple[Path, Path], views: str
) -> dict[str, Any]:
    """Train one student and probe it."""
    table = embed(load_prior(prior), folders[0], work / name / "embeddings")
    transport = work / name / "transport.safetensors"
    fit_transport(table).save(transport)
    overrides = [
        f"name={name}-{seed}",
        f"seed={seed}",
        "rela=default",
        f"rela.prior='{prior}'",
        "rela.data_ratio=0.2",
        f"rela.augmentations={views}",
        "rela.handover=1.0",
        "rela.verify=0",
        f"rela.embeddings='{table.path}'",
        f"rela.transport='{transport}'",
        f"data.train_path='{folders[0]}'",
        f"checkpoint.dir='{work / 'runs'}'",
    ]
    cfg: Any = OmegaConf.to_container(compose("demo", None, overrides), resolve=True)
    result = train(cfg)
    method: Any = result.method
    scores = score(method.backbone, read_held_out(*folders), draws=5)
    return {
        "prior": name,
        "seed": seed,
        "few_label_accuracy": round(scores.few_label, 4),
        "probe_accuracy": round(scores.probe, 4),
        "samples_seen": result.samples_seen,
        "wall_seconds": round(result.seconds, 1),
    }


def main() -> None:
    """Assess, train, correlate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--on", choices=list(SETTINGS), default="digits")
    parser.add_argument("--out", type=Path, default=Path("scripts/results/recommend"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    silence_lightning()
    arguments.out.mkdir(parents=True, exist_ok=True)
    reached_by, views, described = SETTINGS[arguments.on]
    log = arguments.out / f"runs-{arguments.on}.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        digits = arguments.on == "digits"
        folders = write_digits(work / "data") if digits else write_cifar(arguments.data / "cifar10", work / "data")
        priors = priors_of(work, arguments.data / "priors")
        loaders = {name: partial(load_prior, prior) for name, prior in priors.items()}
        assessments = survey(loaders, image_source(str(folders[0])), sample=SAMPLE, labelled=True)
        for seed in arguments.seeds:
            for name, prior in priors.items():
                if any((run["prior"], run["seed"]) == (name, seed) for run in runs):
                    continue
                runs.append(train_and_probe(name, prior, seed, work, folders, views))
                print(json.dumps(runs[-1]), file=sys.stderr)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    names = [one.prior for one in assessments]
    reached = {
        name: [run[reached_by] for run in runs if run["prior"] == name and run["seed"] in arguments.seeds]
        for name in names
    }
    means = [float(np.mean(reached[name])) for name in names]
    by_rank = {one.prior: -rank for one, rank in ranked(assessments)}
    measures = {key: [one.scores[key] for one in assessments] for key in assessments[0].scores}
    measures["mean rank with labels"] = [by_rank[name] for name in names]
    plain = [type(one)(**{**vars(one), "scores": _without_labels(one.scores)}) for one in assessments]
    unlabelled = {one.prior: -rank for one, rank in ranked(plain)}
    measures["mean rank without labels"] = [unlabelled[name] for name in names]
    correlations = {}
    for key, values in measures.items():
        found = spearmanr(values, means)
        correlations[key] = {"spearman": round(float(found.statistic), 3), "p": round(float(found.pvalue), 3)}
    facts = {
        "command": f"python scripts/validate_recommend.py --data DIR --on {arguments.on}",
        "data": described,
        "reached": reached_by,
        "priors": {
            one.prior: {
                "scores": {key: round(value, 4) for key, value in one.scores.items()},
                reached_by: {"mean": round(mean, 4), "seeds": reached[one.prior]},
            }
            for one, mean in zip(assessments, means, strict=True)
        },
        "correlations": correlations,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in ("rela-zoo", "torch", "lightning", "timm", "scikit-learn")},
        },
    }
    (arguments.out / f"{arguments.on}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(correlations, indent=1))


def _without_labels(scores: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if key in ("rank_me", "agreement", "stability")}


if __name__ == "__main__":
    main()
