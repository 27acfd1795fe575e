"""Draws of a fixed size: inclusion probabilities, systematic draws, weights without bias."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rela_zoo.selection._draw import inclusion_probabilities, systematic_draw, unbiased_weights

scores = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=60).filter(any)


@settings(max_examples=200, deadline=None)
@given(values=scores, share=st.floats(0.0, 1.0))
def test_probabilities_add_up_and_keep_the_order_of_scores(values, share):
    positive = sum(v > 0 for v in values)
    count = max(1, round(share * positive))
    pi = inclusion_probabilities(np.array(values), count)
    assert pi.sum() == pytest.approx(count, rel=1e-9)
    assert ((pi >= 0) & (pi <= 1)).all()
    assert ((pi > 0) == (np.array(values) > 0)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(pi[order]) >= -1e-12).all()
    # Where none is certain, shares are exactly proportional.
    free = (pi > 0) & (pi < 1)
    if free.any():
        ratio = pi[free] / np.array(values)[free]
        assert ratio == pytest.approx(ratio[0], rel=1e-9)


def test_a_score_too_large_is_taken_for_certain_and_the_rest_shared_out():
    assert inclusion_probabilities(np.array([100.0, 1.0, 1.0]), 2).tolist() == [1.0, 0.5, 0.5]
    # The first share of 4/10·3 = 1.2 makes the second too large only after it was cut.
    assert inclusion_probabilities(np.array([4.0, 3.0, 2.0, 1.0]), 3) == pytest.approx([1, 1, 2 / 3, 1 / 3])


@pytest.mark.parametrize("values", [[1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_impossible_scores_are_refused(values):
    with pytest.raises(ValueError, match="finite scores"):
        inclusion_probabilities(np.array(values), 1)


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="1 to 2 samples"):
        inclusion_probabilities(np.array([1.0, 1.0, 0.0]), 3)


@settings(max_examples=200, deadline=None)
@given(values=scores, share=st.floats(0.0, 1.0), seed=st.integers(0, 10**6), cells=st.integers(1, 9))
def test_draws_are_distinct_of_the_right_size_and_never_of_an_impossible_sample(values, share, seed, cells):
    positive = sum(v > 0 for v in values)
    count = max(1, round(share * positive))
    pi = inclusion_probabilities(np.array(values), count)
    strata = np.random.default_rng(seed).integers(0, cells, len(values)).astype(np.int32)
    for groups in (None, strata):
        drawn = systematic_draw(pi, count, np.random.default_rng(seed), groups)
        assert drawn.dtype == np.int64
        assert len(drawn) == count == len(set(drawn.tolist()))
        assert (pi[drawn] > 0).all()
        assert np.isin(np.flatnonzero(pi == 1.0), drawn).all()
    again = systematic_draw(pi, count, np.random.default_rng(seed), strata)
    assert (again == drawn).all()


def test_each_stratum_gives_its_due_rounded_up_or_down():
    generator = np.random.default_rng(0)
    strata = np.repeat(np.arange(5, dtype=np.int32), [40, 30, 15, 10, 5])
    pi = inclusion_probabilities(generator.random(100) + 0.1, 23)
    due = np.bincount(strata, pi)
    for seed in range(50):
        got = np.bincount(strata[systematic_draw(pi, 23, np.random.default_rng(seed), strata)], minlength=5)
        assert (np.abs(got - due) < 1).all()


@pytest.mark.parametrize("stratified", [False, True])
def test_samples_are_drawn_as_often_as_their_probability_says(stratified):
    generator = np.random.default_rng(1)
    pi = inclusion_probabilities(generator.random(20) ** 3, 6)
    strata = (np.arange(20) % 4).astype(np.int32) if stratified else None
    draws = 20_000
    counts = np.zeros(20)
    for _ in range(draws):
        counts[systematic_draw(pi, 6, generator, strata)] += 1
    deviation = np.sqrt(draws * pi * (1 - pi))
    assert (np.abs(counts - draws * pi) <= 4.5 * deviation + 1e-6 * draws).all()


def test_weighted_means_are_unbiased():
    generator = np.random.default_rng(2)
    values, n, count, draws = generator.random(30), 30, 8, 20_000
    pi = inclusion_probabilities(generator.random(n) + 0.05, count)
    means = []
    for _ in range(draws):
        drawn = systematic_draw(pi, count, generator)
        means.append((unbiased_weights(pi, drawn) * values[drawn]).mean())
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * np.std(means) / np.sqrt(draws))
    # The test can tell: without weights the mean is another one.
    unweighted = (pi * values).sum() / count
    assert abs(unweighted - values.mean()) > 8 * np.std(means) / np.sqrt(draws)


def test_equal_probabilities_have_weight_one():
    pi = np.full(50, 0.2)
    assert unbiased_weights(pi, np.arange(10)) == pytest.approx(1.0)


def test_a_draw_of_a_million_loses_no_sample():
    n, count = 1_281_167, 256_233
    generator = np.random.default_rng(3)
    pi = inclusion_probabilities(generator.random(n) ** 4 + 1e-9, count)
    drawn = systematic_draw(pi, count, generator)
    assert len(np.unique(drawn)) == count
