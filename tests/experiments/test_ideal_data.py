"""The toy whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from experiments import ideal_data


def test_the_best_classifier_errs_no_more_than_the_best_possible() -> None:
    samples, classes = ideal_data.draw(np.random.default_rng(0), 50_000)
    best = np.eye(ideal_data.DIM)[0]
    assert ideal_data.excess(best, samples) == pytest.approx(0, abs=1e-12)
    assert ideal_data.excess(-best, samples) > 0.8
    # Its error is that of two Gaussians at this distance.
    from scipy.stats import norm

    wrong = np.mean(np.sign(samples @ best) != classes)
    assert wrong == pytest.approx(norm.cdf(-ideal_data.DISTANCE / 2), abs=0.005)


def test_what_is_shipped_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Path(ideal_data.__file__).parent / "results" / "ideal-data" / "results.json"
    found = json.loads(shipped.read_text())["excess_error"]["probabilities"]["mean"][-1]
    test, _ = ideal_data.draw(np.random.default_rng(10**6), 20_000)
    again = [ideal_data.train("probabilities", seed, test)[-1] for seed in range(3)]
    assert np.mean(again) == pytest.approx(found, abs=2e-4)
