"""Two processes on the CPU, as Lightning starts them from solo-learn's script."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.solo

# simclr has no momentum network, byol has; the heads of both have no gradient in the accelerated stage.
CASES = {
    "byol": ["rela.handover=0.5", "rela.head=trained"],
    "simclr": ["rela.handover=0.5", "rela.handover_at=step", "data.num_workers=1"],
}


@pytest.fixture(scope="module", params=CASES)
def outcome(request, solo):
    job = solo.job(
        request.param,
        "+rela=tiny-grid",
        "rela.data_ratio=0.5",
        *CASES[request.param],
        changes={"max_epochs": 4, "devices": "02", "strategy": "ddp", "sync_batchnorm": False},
    )
    job.arguments.append("optimizer.batch_size=4")
    (done,) = solo.run(job)
    assert done.ok, done.error + done.output[-3000:]
    assert len(done.ranks) == 2, done.output[-3000:]
    return done


def test_both_stages_and_one_handover_for_all(outcome):
    stages = [[b["stage"] for b in outcome.rows("batch", rank)] for rank in (0, 1)]
    assert stages[0] == stages[1]
    assert stages[0][0] == "accelerated"
    assert stages[0][-1] == "own"
    assert stages[0] == sorted(stages[0])  # once and for good
    assert len(stages[0]) == 8
    ends = [outcome.rows("end", rank)[-1] for rank in (0, 1)]
    assert ends[0]["handover_step"] == ends[1]["handover_step"] is not None


def test_heads_without_gradient_are_allowed_for(outcome):
    assert outcome.start["world"] == 2
    assert outcome.start["unused"] is True


def test_ranks_are_disjoint_and_together_the_subset(outcome):
    for epoch in range(4):
        parts = [
            {i for b in outcome.rows("batch", rank) if b["epoch"] == epoch for i in b["indices"]} for rank in (0, 1)
        ]
        assert len(parts[0]) == len(parts[1]) == 8
        assert not parts[0] & parts[1]
    epochs = [
        frozenset(i for rank in (0, 1) for b in outcome.rows("batch", rank) if b["epoch"] == e for i in b["indices"])
        for e in range(4)
    ]
    assert len(set(epochs)) == 4


def test_parameters_stay_the_same_on_all_ranks(outcome):
    ends = [outcome.rows("end", rank)[-1] for rank in (0, 1)]
    # Running statistics of batch norm are each rank's own, so only what was trained is compared, by its losses.
    assert ends[0]["moved"] == ends[1]["moved"]
    assert ends[0]["averages"] == ends[1]["averages"]
