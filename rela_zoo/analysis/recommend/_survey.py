"""Embed a sample of a data set with each prior, time it, and score the rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.digest import sample_order
from rela_zoo._io.progress import Progress
from rela_zoo.analysis import similarity
from rela_zoo.analysis.evaluate import knn_accuracy, linear_probe
from rela_zoo.analysis.recommend._transferability import h_score, log_me
from rela_zoo.data import image_source
from rela_zoo.errors import EmbeddingsError, RegistryError, RelaZooError
from rela_zoo.prior import find_weights, load_prior
from rela_zoo.registry import list_priors
from rela_zoo.transport import RidgePath, chunk_moments, r_squared, split_moments

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource
    from rela_zoo.prior import Prior

# Measure → what it is. In each, more is better.
UNLABELLED: dict[str, str] = {
    "rank_me": "RankMe: effective rank of the rows",
    "agreement": "mean held-out R² of the transports from the other priors",
    "stability": "how often an augmented image's nearest row is its own",
}
LABELLED: dict[str, str] = {
    "log_me": "LogME",
    "h_score": "H-score",
    "knn": "20-NN accuracy, held out",
    "probe": "linear probe accuracy, held out",
}
_BATCH = 64
_MINIMUM = 100


@dataclass(frozen=True)
class Assessment:
    """What was found about one prior on one data set.

    Attributes:
        prior: its id.
        dim: features an image.
        scores: measure → value; a subset of `UNLABELLED` and `LABELLED`.
        images_per_second: of preparing and embedding, measured on the sample, without the first batch.
        embed_seconds: what embedding the whole data set would take at that rate.
        embed_bytes: what its float16 rows would take.

    Examples:
        >>> from rela_zoo import Assessment
        >>> found = Assessment("cifar10-resnet20", 64, {"knn": 0.8}, 100.0, embed_seconds=500.0, embed_bytes=6_400_000)
        >>> f"{found.prior}: {found.scores['knn']:.0%} in {found.embed_seconds:.0f} s"
        'cifar10-resnet20: 80% in 500 s'
    """

    prior: str
    dim: int
    scores: dict[str, float]
    images_per_second: float
    embed_seconds: float
    embed_bytes: int


def labels_of(ids: Sequence[str]) -> np.ndarray:
    """Classes of an image folder's samples, by the first part of their ids.

    Raises:
        EmbeddingsError: ids without a folder, or one class only.
    """
    names = [one.split("/", 1)[0] if "/" in one else "" for one in ids]
    if "" in names or len(set(names)) < 2:
        raise EmbeddingsError(
            "this data set has no labels that can be read off its ids",
            expected="an image folder with one folder a class, at least two",
            got=f"ids such as {', '.join(map(repr, list(ids)[:2]))}",
            fix="leave --labels out",
        )
    return np.unique(names, return_inverse=True)[1]


def _labels_at(source: ImageSource, picks: Sequence[int]) -> np.ndarray:
    """Classes (n,) of some images, by the source's labels, else by the ids; counted from 0 without a gap."""
    found = None if source.labels is None else np.unique(np.asarray(source.labels)[picks], return_inverse=True)[1]
    return labels_of([source.ids[i] for i in picks]) if found is None or found.max() < 1 else found


def survey(
    priors: Mapping[str, Callable[[], Prior]],
    source: ImageSource,
    *,
    sample: int = 1000,
    labelled: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> list[Assessment]:
    """Assess priors on a sample of the images.

    Args:
        priors: name → loads it; one is in memory at a time.
        source: the images.
        sample: at most so many, chosen by a hash of their ids.
        labelled: also score against the source's labels; a fifth of the sample is held out for it.
        seed: of the augmented views.
        device: where priors run; None takes CUDA if there is one.
        progress: as for `embed`.

    Returns:
        One assessment a prior, in the order given.

    Raises:
        EmbeddingsError: fewer than 100 images, or labels that can't be had.
    """
    if len(source) < _MINIMUM:
        raise EmbeddingsError("too few images to judge priors by", expected=f"at least {_MINIMUM}", got=len(source))
    ids = source.ids
    picks = sorted(range(len(ids)), key=lambda i: sample_order(ids[i]))[:sample]
    labels = _labels_at(source, picks) if labelled else None
    here = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: dict[str, Tensor] = {}
    found: dict[str, tuple[dict[str, float], float]] = {}
    with Progress("assessing", len(priors), unit="priors", show=progress) as bar:
        for name, load in priors.items():
            prior = load().to(here)
            rows[name], rate = _embed(prior, source, picks, here, augment=False, seed=seed)
            moved, _ = _embed(prior, source, picks, here, augment=True, seed=seed)
            scores = {"rank_me": similarity.effective_rank(rows[name]), "stability": _own_is_nearest(moved, rows[name])}
            if labels is not None:
                scores |= _against_labels(rows[name].numpy(), labels)
            found[name] = scores, rate
            bar.advance(1)
    assessments = []
    for name, (scores, rate) in found.items():
        others = [_agreement(other, rows[name]) for one, other in rows.items() if one != name]
        if others:
            scores["agreement"] = float(np.mean(others))
        dim = rows[name].shape[1]
        order = {key: scores[key] for key in (*UNLABELLED, *LABELLED) if key in scores}
        assessments.append(Assessment(name, dim, order, rate, len(source) / rate, len(source) * dim * 2))
    return assessments


def ranked(assessments: Sequence[Assessment]) -> list[tuple[Assessment, float]]:
    """Assessments with their mean rank over the measures that count, best (lowest, from 1) first.

    With labels only the labelled measures count, for they see the task; without, the others.
    """
    if not assessments:
        return []
    measures = [key for key in LABELLED if key in assessments[0].scores]
    measures = measures or [key for key in UNLABELLED if key in assessments[0].scores]
    ranks = np.zeros(len(assessments))
    for key in measures:
        values = np.array([one.scores[key] for one in assessments])
        # Ties share the mean of their ranks.
        ranks += [float((values > value).sum() + ((values == value).sum() + 1) / 2) for value in values]
    order = np.argsort(ranks, kind="stable")
    return [(assessments[int(i)], float(ranks[i]) / len(measures)) for i in order]


def recommend(
    data: Any,
    priors: Sequence[str] | None = None,
    *,
    sample: int = 1000,
    labelled: bool = False,
    seed: int = 0,
    progress: bool | Literal["always"] = False,
) -> list[tuple[Assessment, float]]:
    """Rank priors for a data set before any training.

    Args:
        data: whatever `image_source` accepts.
        priors: names or YAML entries; None takes every prior whose weights are on this machine, with `random` as the
            control.
        sample: images to judge by, ≥ 100.
        labelled: use the labels of the images.
        seed: of the augmented views.
        progress: as for `embed`.

    Returns:
        Assessments with their mean ranks, best first; see `ranked`.

    Raises:
        RegistryError: no prior's weights are on this machine, or an unknown name.
        EmbeddingsError: fewer than 100 images, or labels that can't be had.

    Examples:
        >>> from rela_zoo import recommend
        >>> best, mean_rank = recommend("photos", ["cifar10-resnet20"], sample=100, labelled=True)[0]
        >>> best.prior, best.dim, sorted(best.scores)
        ('cifar10-resnet20', 64, ['h_score', 'knn', 'log_me', 'probe', 'rank_me', 'stability'])
    """
    source = image_source(data)
    loaders = _in_reach() if priors is None else {name: partial(load_prior, name) for name in priors}
    return ranked(survey(loaders, source, sample=sample, labelled=labelled, seed=seed, progress=progress))


def _in_reach() -> dict[str, Callable[[], Prior]]:
    """All priors that load without a network, `random` among them as the control."""
    found: dict[str, Callable[[], Prior]] = {}
    for spec in list_priors():
        if spec.source in ("callable", "random") and spec.id != "random":
            continue
        try:
            if spec.has_weights:
                find_weights(spec, download=False)
        except RelaZooError:
            continue
        found[spec.id] = partial(load_prior, spec.id)
    if not found:
        raise RegistryError("no prior's weights are on this machine", fix="name priors, or fetch weights first")
    return found


@torch.inference_mode()
def _embed(
    prior: Prior, source: ImageSource, picks: Sequence[int], device: torch.device, *, augment: bool, seed: int
) -> tuple[Tensor, float]:
    """Rows (n, D) float32 on the CPU, and images a second without the first batch, which warms caches up."""
    from torchvision import transforms

    # Before the prior's own preparation, and in relative terms, so that it suits any size.
    mild = transforms.Compose([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1), transforms.RandomAffine(8, (0.08, 0.08))])
    rows, started, timed = [], time.perf_counter(), 0
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for first in range(0, len(picks), _BATCH):
            images = [source.image(i) for i in picks[first : first + _BATCH]]
            batch = torch.stack([prior.transform(mild(image) if augment else image) for image in images])
            rows.append(prior(batch.to(device)).float().cpu())
            if first == 0 and len(picks) > _BATCH:
                started = time.perf_counter()
            else:
                timed += len(images)
    return torch.cat(rows), timed / max(time.perf_counter() - started, 1e-9)


def _own_is_nearest(moved: Tensor, rows: Tensor) -> float:
    centre = rows.mean(0)
    a, b = (torch.nn.functional.normalize(one - centre, dim=1) for one in (moved, rows))
    return float(((a @ b.T).argmax(1) == torch.arange(len(a))).double().mean())


def _agreement(source: Tensor, target: Tensor) -> float:
    """Held-out R² of ridge regression; every fifth sample is held out, and chooses no strength."""
    number = torch.arange(len(source)) % 5
    both = torch.cat([source, target], 1).double()
    fit, choose, judge = (
        split_moments(chunk_moments(both[part]), source.shape[1]) for part in (number > 1, number == 1, number == 0)
    )
    path = RidgePath(fit)
    return r_squared(path.at(path.best(choose)), judge)


def _against_labels(rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    held = np.arange(len(rows)) % 5 == 0
    x, y, x_held, y_held = rows[~held], labels[~held], rows[held], labels[held]
    return {
        "log_me": log_me(rows, labels),
        "h_score": h_score(rows, labels),
        "knn": knn_accuracy(x, y, x_held, y_held),
        "probe": linear_probe(x, y, x_held, y_held),
    }
