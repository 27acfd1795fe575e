"""What makes data fast to learn from, where the answer is known: samples that vary less, targets that are right.

    python scripts/experiments/ideal_data.py --out scripts/experiments/results/ideal-data

Two classes, each a Gaussian of deviation 1 in 20 dimensions, with means at distance 3; half of them each. A linear
classifier is trained by plain SGD, one sample a step, on 1,000 samples, and compared with the best possible one.

* Samples: each is moved towards the mean of its class by a fraction, as a better augmentation or selection would.
* Targets: labels of which a part is wrong; the same labels without mistakes; and what an expert model would say, the
  probability of the class given the sample. The last are what a prior's targets are to a student.

In the paper (arXiv 2405.14669, section 3) these are the two sides of ideal data: the variance of the samples and the
accuracy of the targets. This script measures them in a problem of its own; it repeats none of the paper's figures.
Here the targets decide, and samples that are moved make it slower: what is random in the first weights is unlearnt only
where the samples vary.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

DIM, DISTANCE, SAMPLES, RATE, SEEDS = 20, 3.0, 1000, 0.05, 20
STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# Name → (how far samples are moved to the mean of their class, share of wrong labels or None for probabilities).
KINDS: dict[str, tuple[float, float | None]] = {
    "labels, 20 % wrong": (0.0, 0.2),
    "labels": (0.0, 0.0),
    "probabilities": (0.0, None),
    "labels, samples half-way to the mean": (0.5, 0.0),
    "probabilities, samples half-way to the mean": (0.5, None),
}


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples (count, DIM), and classes (count,), −1 or 1."""
    classes = rng.choice([-1, 1], count)
    samples = rng.normal(size=(count, DIM))
    samples[:, 0] += classes * DISTANCE / 2
    return samples, classes


def probability(samples: np.ndarray) -> np.ndarray:
    """Of class 1, given the samples (count, DIM): (count,)."""
    return 1 / (1 + np.exp(-DISTANCE * samples[:, 0]))


def excess(weights: np.ndarray, samples: np.ndarray) -> float:
    """How much more often a classifier (DIM,) errs on samples (M, DIM) than the best one, by the true probabilities."""
    one, chosen = probability(samples), samples @ weights > 0
    return float(np.where(chosen, 1 - one, one).mean() - np.minimum(one, 1 - one).mean())


def train(kind: str, seed: int, test: np.ndarray) -> list[float]:
    """The excess error after each of `STEPS`."""
    moved, wrong = KINDS[kind]
    rng = np.random.default_rng(seed)
    samples, classes = draw(rng, SAMPLES)
    targets = probability(samples) if wrong is None else (classes > 0).astype(float)
    if wrong:
        targets = np.where(rng.random(SAMPLES) < wrong, 1 - targets, targets)
    centres = np.zeros((SAMPLES, DIM))
    centres[:, 0] = classes * DISTANCE / 2
    samples = samples + moved * (centres - samples)
    weights, found = rng.normal(size=DIM), []
    for step in range(1, STEPS[-1] + 1):
        one = int(rng.integers(SAMPLES))
        guess = 1 / (1 + np.exp(-samples[one] @ weights))
        weights = weights - RATE * (guess - targets[one]) * samples[one]
        if step in STEPS:
            found.append(excess(weights, test))
    return found


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and figure.png")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    test, _ = draw(np.random.default_rng(10**6), 20_000)
    curves = {kind: np.array([train(kind, seed, test) for seed in range(SEEDS)]) for kind in KINDS}
    rows = {
        kind: {
            "mean": each.mean(0).round(5).tolist(),
            "standard_error": (each.std(0, ddof=1) / SEEDS**0.5).round(5).tolist(),
        }
        for kind, each in curves.items()
    }
    made = {"steps": STEPS, "seeds": SEEDS, "numpy": np.__version__, "excess_error": rows}
    (out / "results.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    _figure(curves, out / "figure.png")
    for kind, row in rows.items():
        print(f"{kind:45} " + " ".join(f"{value * 100:6.2f}" for value in row["mean"]))
    return 0


def _figure(curves: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind, each in curves.items():
        mean, error = each.mean(0) * 100, each.std(0, ddof=1) / SEEDS**0.5 * 100
        axes.plot(STEPS, mean, marker="o", markersize=3, label=kind)
        axes.fill_between(STEPS, mean - error, mean + error, alpha=0.15)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps of SGD, one sample each",
        ylabel="error above the best possible, points",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
