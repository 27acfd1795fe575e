"""The handover once the student's features tell the classes apart as well as the prior's: `rela.handover=surpass`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rela_zoo._io import ranks
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.targets import Student, Targets
from rela_zoo.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource

_IMAGES = 2048  # looked at, at most: half of them are neighbours, half are judged
_LEAST = 20
_NEIGHBOURS = 20
_BATCH = 64


class Judge:
    """How well features tell the labels of a few training images: of the student, and of its priors.

    The accuracy of 20 nearest neighbours by cosine, with one half of the images as the neighbours of the other, all of
    them un-augmented. The images are the same each time.

    Args:
        student: the network while it is trained.
        source: the images, with labels.
        targets: of each prior.
        seed: of the choice of the images.
        device: where the network is.

    Attributes:
        images: how many are looked at.
        wanted: the accuracy of the best prior, in [0, 1].

    Raises:
        ConfigError: the prior tells the labels apart no better than always naming the commonest, or the student gives
            something else than features.
    """

    def __init__(
        self, student: Student, source: ImageSource, targets: Sequence[Targets], seed: int, device: torch.device
    ) -> None:
        from rela_zoo.prior import square_transform

        labels = np.asarray(source.labels)
        labelled = np.flatnonzero(labels >= 0)
        picks = np.random.default_rng([seed, len(labels)]).permutation(labelled)[:_IMAGES]
        self._labels, self.images = labels[picks], len(picks)
        self._network, self._device = student.network, device
        self._transform = square_transform(student.size, student.mean, student.std)
        self._pixels = torch.stack([self._transform.pixels(source.image(int(i))) for i in picks])
        self.wanted = max(self._accuracy(one.rows(torch.from_numpy(picks)).float()) for one in targets)
        judged = self._labels[len(picks) // 2 :]
        commonest = float(np.unique(judged, return_counts=True)[1].max() / len(judged))
        if self.wanted <= commonest:
            fix = "set rela.handover=plateau, adaptive or a fraction, or choose another prior"
            expected = (
                f"a prior that tells labels apart better than the commonest one does ({commonest:.1%}), for surpass"
            )
            raise ConfigError([Problem("rela.handover", expected, f"{self.wanted:.1%}", fix)])
        self._check(self._features(self._pixels[:2]))

    @torch.no_grad()
    def student(self) -> float:
        """The accuracy of the student as it is now, in [0, 1]: a mean over ranks, so that all decide alike."""
        rows = torch.cat([self._features(pixels) for pixels in self._pixels.split(_BATCH)])
        # A training that has diverged is said by its loss; here it has surpassed nobody.
        found = self._accuracy(rows) if torch.isfinite(rows).all() else 0.0
        accuracy = torch.tensor(found, dtype=torch.float64, device=self._device)
        return float(ranks.mean_over_ranks(accuracy))

    @torch.no_grad()
    def _features(self, pixels: Tensor) -> Tensor:
        # Where the network is by now: a trainer moves it to its device after this has been set up.
        one = next(self._network.parameters(), None)
        device, dtype = (self._device, torch.float32) if one is None else (one.device, one.dtype)
        with _evaluated(self._network), torch.autocast(device.type, enabled=False):
            images = self._transform.normalise(pixels.to(device))
            features = self._network(images.to(dtype))
            return features.float().cpu() if isinstance(features, Tensor) else features

    @staticmethod
    def _check(features: object) -> None:
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != 2:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            fix = "give a network that maps a batch of images to their features alone"
            raise ConfigError([Problem("rela.handover", "a student's features (B, m), for surpass", f"{got}", fix)])

    def _accuracy(self, rows: Tensor) -> float:
        from rela_zoo.analysis.evaluate import knn_accuracy

        half = len(rows) // 2
        found, known = rows.flatten(1).numpy(), self._labels
        return knn_accuracy(found[:half], known[:half], found[half:], known[half:], k=_NEIGHBOURS)


def refuse_unjudged(config: RelaConfig, student: Student | None, source: ImageSource | None) -> None:
    """Refuse `rela.handover=surpass`, before any row is made, where there is nothing to compare.

    Raises:
        ConfigError: nobody gave the student, or the images have no labels, or too few of them do.
    """
    if not _is_judged(config):
        return
    if student is None:
        fix = "give `student`, or set rela.handover=plateau, adaptive or a fraction"
        raise ConfigError([Problem("rela.handover", "a host that knows its student, for surpass", "none", fix)])
    assert source is not None
    labelled = 0 if source.labels is None else int((np.asarray(source.labels) >= 0).sum())
    if labelled < _LEAST:
        fix = "set rela.handover=plateau, adaptive or a fraction, or give images with labels"
        got = "none" if source.labels is None else f"{labelled} images with one"
        raise ConfigError([Problem("rela.handover", "labels, to see when the student surpasses it", got, fix)])


def judge_of(
    config: RelaConfig,
    student: Student | None,
    source: ImageSource | None,
    targets: Sequence[Targets],
    seed: int,
    device: torch.device,
) -> Judge | None:
    """The judge of a run that `refuse_unjudged` has let pass, for `rela.handover=surpass`; None for other rules."""
    if not _is_judged(config):
        return None
    assert student is not None
    assert source is not None
    return Judge(student, source, targets, seed, device)


def _is_judged(config: RelaConfig) -> bool:
    return config.accelerates and config.handover == "surpass"


class SurpassHandover:
    """Hands over at the end of the first epoch after which the student predicts labels as well as its prior does.

    Args:
        judge: compares them.
    """

    known_to_host = True

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._found, self._done = 0.0, False

    def look(self) -> None:
        """At the end of an epoch: see how far the student is."""
        self._found = self.judge.student()
        self._done = self._done or self._found >= self.judge.wanted

    def update(self, loss: Tensor | float) -> Tensor:
        """The loss plays no part. Returns the share of the prior's accuracy that was last seen (scalar in [0, 1])."""
        return torch.tensor(min(1.0, self._found / max(self.judge.wanted, 1e-12)))

    @property
    def handed_over(self) -> bool:
        """Whether the student has surpassed its prior."""
        return self._done

    def state_dict(self) -> dict[str, Tensor]:
        """What was last seen."""
        return {"found": torch.tensor(self._found, dtype=torch.float64), "done": torch.tensor(self._done)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._found, self._done = float(state["found"]), bool(state["done"])


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode, and each of its modules in its own again."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
