"""What each policy wants, and what it draws."""

import numpy as np
import pytest
import torch

from rela_zoo.errors import SelectionError
from rela_zoo.selection import build_subset, parse_selection
from rela_zoo.selection._losses import RunningLosses
from rela_zoo.selection._policy_subset import PolicySubset, RatioSchedule
from rela_zoo.selection.policies import Context, Scores, always, equal_shares, nearest
from rela_zoo.selection.subset import EpochSubset


class FakeSpace:
    """Two clusters, 90 and 10 samples; distances rise with the index; every pair of neighbours is a duplicate."""

    def clusters(self, count, dims):
        return (np.arange(100) >= 90).astype(np.int32), np.arange(100, dtype=np.float32)

    def cells(self, count, dims):
        return (np.arange(100) * count // 100).astype(np.int32)

    def duplicates(self, threshold, clusters, dims):
        return (np.arange(100) // 2).astype(np.int32)


def _build(selection, ratio=0.2, n=100, epochs=10, **more):
    config, problems = parse_selection(selection, ratio)
    assert not problems
    return build_subset(config, n=n, ratio=ratio, seed=5, epochs=epochs, space=FakeSpace(), **more)


ALL = ["uniform", "balanced", "coverage", "dedup", "prototypical", "hard", "loss", "curriculum"]


@pytest.mark.parametrize("name", ALL)
def test_every_policy_draws_as_many_distinct_samples_afresh_and_repeatably(name):
    subset, again = _build(name), _build(name)
    draws = [subset.draw(epoch).indices for epoch in range(5)]
    assert len(subset) == 20
    for epoch, drawn in enumerate(draws):
        assert drawn.dtype == torch.int64
        assert len(set(drawn.tolist())) == len(drawn) == subset.count(epoch) == 20
        assert torch.equal(drawn, again.draw(epoch).indices)
    assert len({tuple(sorted(drawn.tolist())) for drawn in draws}) == 5


def test_static_draws_the_same_samples_in_a_new_order():
    draws = [_build("static").draw(epoch) for epoch in range(4)]
    assert all(len(one.indices) == 20 for one in draws)
    assert len({tuple(sorted(one.indices.tolist())) for one in draws}) == 1
    assert len({tuple(one.indices.tolist()) for one in draws}) == 4
    config, _ = parse_selection("static", 0.2)
    other = build_subset(config, n=100, ratio=0.2, seed=6, epochs=10, space=FakeSpace())
    assert set(other.draw(0).indices.tolist()) != set(draws[0].indices.tolist())
    assert all(one.weights is None for one in draws)


def test_uniform_is_the_plain_epoch_subset():
    assert isinstance(_build("uniform"), EpochSubset)


def test_the_draw_of_a_seed_never_changes():
    # Golden: a checkpoint resumed with a later version must see the same samples.
    assert sorted(_build("balanced", ratio=0.1).draw(0).indices.tolist()) == [6, 31, 52, 66, 74, 90, 91, 93, 95, 99]
    assert sorted(_build("loss", ratio=0.1).draw(3).indices.tolist()) == [16, 37, 39, 44, 63, 66, 74, 81, 84, 86]


def test_balanced_takes_equal_shares_of_unequal_clusters():
    for epoch in range(20):
        drawn = _build("balanced").draw(epoch).indices
        assert int((drawn >= 90).sum()) == 10
    # A share of 15 is more than the small cluster has: it gives all, the rest comes from the other.
    drawn = _build("balanced", ratio=0.3).draw(0).indices
    assert int((drawn >= 90).sum()) == 10
    assert len(drawn) == 30


def test_coverage_takes_one_sample_of_each_cell():
    for epoch in range(20):
        drawn = _build("coverage").draw(epoch).indices
        assert sorted((drawn // 5).tolist()) == list(range(20))


def test_dedup_counts_duplicates_once_and_never_draws_two_of_a_kind():
    for epoch in range(20):
        groups = (_build("dedup").draw(epoch).indices // 2).tolist()
        assert len(set(groups)) == 20


def test_dedup_lowers_the_chance_of_duplicates():
    groups = np.concatenate([np.zeros(50, np.int32), np.arange(1, 51, dtype=np.int32)])
    values = equal_shares(groups, False)(0).values
    assert values[:50].sum() == pytest.approx(values[60])


@pytest.mark.parametrize(("name", "inside"), [("prototypical", range(60)), ("hard", range(40, 100))])
def test_the_ends_of_the_scale(name, inside):
    drawn = torch.cat([_build(name).draw(epoch).indices for epoch in range(30)]).tolist()
    assert set(drawn) <= set(inside)
    assert len(set(drawn)) > 55  # fresh draws from the whole pool
    half = torch.cat([_build({"name": name, "pool": 0.3}).draw(epoch).indices for epoch in range(30)]).tolist()
    assert set(half) <= set(range(30) if name == "prototypical" else range(70, 100))


def test_nearest_breaks_ties_by_position():
    assert np.flatnonzero(nearest(np.zeros(6), 2)(0).values).tolist() == [0, 1]


def test_loss_prefers_large_losses_and_bounds_the_weights():
    subset = _build({"name": "loss", "momentum": 0.0})
    running = subset.losses
    first = subset.draw(0)
    assert first.weights == pytest.approx(1.0)
    running.observe(torch.arange(80), torch.where(torch.arange(80) < 10, 2.0, 0.01))
    running.end_epoch(lambda t: t)
    draws = [subset.draw(epoch) for epoch in range(300)]
    often = np.bincount(torch.cat([d.indices for d in draws]).numpy(), minlength=100) / 300
    assert often[:10].mean() > 3 * often[10:80].mean()
    # Samples not seen yet count as average ones.
    assert often[10:80].mean() < often[80:].mean() < often[:10].mean()
    weights = torch.cat([d.weights for d in draws])
    assert float(weights.max()) <= 4.0 + 1e-5
    assert float(weights.min()) >= 0.2 - 1e-6


def test_running_losses_average_and_forget_nothing():
    running = RunningLosses(4, 0.5)
    assert running.values.isnan().all()
    running.observe(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    running.observe(torch.tensor([1]), torch.tensor([5.0]))  # seen twice in an epoch: the mean counts
    assert running.values.isnan().all()  # the epoch is not over
    running.end_epoch(lambda t: t)
    running.end_epoch(lambda t: t)
    assert running.values[:2].tolist() == [1.0, 4.0]
    running.observe(torch.tensor([0, 3]), torch.tensor([2.0, 7.0]))
    running.end_epoch(lambda t: t)
    assert running.values[[0, 1, 3]].tolist() == [1.5, 4.0, 7.0]
    assert running.values[2].isnan()


def test_running_losses_survive_a_checkpoint_within_an_epoch():
    running, resumed = RunningLosses(4, 0.5), [RunningLosses(4, 0.5), RunningLosses(4, 0.5)]
    running.observe(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    running.end_epoch(lambda t: t)
    running.observe(torch.tensor([0]), torch.tensor([2.0]))
    state = running.state_dict(lambda t: t)
    for rank, one in enumerate(resumed):
        one.load_state_dict(state, rank)
    total = sum(one._now for one in resumed)
    for one in resumed:
        one.end_epoch(lambda t: total)  # what an all-reduce gives every rank
    running.end_epoch(lambda t: t)
    for one in resumed:
        assert torch.equal(one.values.nan_to_num(-1), running.values.nan_to_num(-1))


def test_a_curriculum_changes_its_policy_on_time():
    phases = [{"name": "prototypical", "pool": 0.4, "until": 0.3}, "loss"]
    policy = parse_selection({"name": "curriculum", "phases": phases}, 0.2)[0].policy
    scores = policy.scores(Context(100, 0.2, 0, 10, space=FakeSpace(), losses=RunningLosses(100, 0.5)))
    assert [int((scores(e).values > 0).sum()) for e in range(10)] == [40] * 3 + [100] * 7
    assert [scores(e).weighted for e in range(10)] == [False] * 3 + [True] * 7
    assert _build({"name": "curriculum", "phases": phases}).losses is not None
    assert _build({"name": "curriculum", "phases": ["uniform"]}).losses is None


def test_of_two_phases_that_look_at_losses_the_first_ones_average_serves_both():
    phases = [{"name": "loss", "momentum": 0.0, "until": 0.5}, {"name": "loss", "momentum": 0.9}]
    losses = _build({"name": "curriculum", "phases": phases}).losses
    for value in (1.0, 3.0):
        losses.observe(torch.tensor([0]), torch.tensor([value]))
        losses.end_epoch(lambda t: t)
    assert float(losses.values[0]) == 3.0


def test_a_policy_must_score_every_sample():
    subset = PolicySubset(100, 0.2, 0, always(Scores(np.ones(99))), {"name": "mine"})
    with pytest.raises(SelectionError, match="selection mine does not score every sample"):
        subset.draw(0)


def test_a_policy_must_say_what_it_looks_at():
    with pytest.raises(SelectionError, match="needs_embeddings = True"):
        Context(100, 0.2, 0).space  # noqa: B018


@pytest.mark.parametrize("growth", [1 / 3, 0.99, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("epochs", [1, 2, 7, 100])
def test_a_schedule_of_sizes_keeps_the_sum(growth, epochs):
    counts = RatioSchedule(37, growth, epochs).counts
    assert len(counts) == epochs
    assert sum(counts) == 37 * epochs
    if epochs == 100:
        assert counts[-1] / counts[0] == pytest.approx(growth, rel=0.08)
        wanted = 37 * 2 * np.linspace(1, growth, 100) / (1 + growth)
        assert (np.abs(counts - wanted) <= 1 + 1e-6).all()


def test_growth_within_a_run():
    subset = _build({"name": "curriculum", "phases": ["uniform"], "growth": 3})
    assert subset.counts[0] == 10
    assert subset.counts[-1] == 30
    assert [len(subset.draw(e).indices) for e in range(10)] == list(subset.counts)
    assert subset.count(99) == 30  # a run that goes on after its last epoch keeps its size
    assert len(subset) == 20


def test_an_epoch_never_outgrows_the_pool():
    phases = [{"name": "hard", "pool": 0.3}]
    subset = _build({"name": "curriculum", "phases": phases, "growth": 3})
    assert set(subset.draw(9).indices.tolist()) == set(range(70, 100))


def test_what_a_policy_needs_is_asked_for():
    config, _ = parse_selection("balanced", 0.2)
    with pytest.raises(SelectionError, match="needs the prior's embeddings"):
        build_subset(config, n=10, ratio=0.2, seed=0)
    config, _ = parse_selection("curriculum", 0.2)
    with pytest.raises(SelectionError, match="number of epochs"):
        build_subset(config, n=10, ratio=0.2, seed=0, space=FakeSpace())


def test_noting_losses_reads_nothing_back_from_the_device():
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    # A fake tensor has no values, so whatever would make the host wait for one raises.
    with FakeTensorMode():
        running, losses = RunningLosses(10, 0.5), torch.rand(4)
        running.observe(torch.arange(4), losses)
        with pytest.raises(DataDependentOutputException):
            float(losses.sum())
