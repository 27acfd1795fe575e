"""A student of prior A, read in the space of prior B: classes are found again, and only through the right transport."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rela_zoo.analysis.evaluate import knn_accuracy
from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import TransportError
from rela_zoo.transport import TargetTransport, fit_prior_transport, fit_transport, read_in

CLASSES, ROWS = 6, 600


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def spaces() -> tuple[Tensor, Tensor, np.ndarray]:
    """Two linear images of the same clustered latents, and the clusters."""
    labels = np.arange(ROWS) % CLASSES
    latents = 3 * _normal(CLASSES, 5, seed=0)[torch.from_numpy(labels)] + _normal(ROWS, 5, seed=1)
    a = latents @ _normal(5, 8, seed=2) + 0.05 * _normal(ROWS, 8, seed=3) + 4
    b = latents @ _normal(5, 12, seed=4) + 0.05 * _normal(ROWS, 12, seed=5) - 2
    return a, b, labels


def _table(folder: Path, rows: Tensor, name: str, order: Tensor | None = None) -> EmbeddingTable:
    ids = [f"{i:04d}.png" for i in range(len(rows))]
    return write_rows(folder, [rows if order is None else rows[order]], ids, prior={"id": name}, dtype="float32")


@pytest.fixture(scope="module")
def targets(spaces: tuple[Tensor, Tensor, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> TargetTransport:
    return fit_transport(_table(tmp_path_factory.mktemp("a") / "t", spaces[0], "a"))


@pytest.mark.parametrize("dim", [5, 8])
def test_classes_are_found_in_the_other_bank(
    spaces: tuple[Tensor, Tensor, np.ndarray], targets: TargetTransport, tmp_path: Path, dim: int
) -> None:
    a, b, labels = spaces
    bank, queries = slice(0, 400), slice(400, ROWS)
    table_a, table_b = _table(tmp_path / "a", a[bank], "a"), _table(tmp_path / "b", b[bank], "b")
    # A good student: right up to noise, and of any length.
    said = targets(a[queries], dim=dim)
    said = (said + 0.1 * _normal(*said.shape, seed=6)) * (0.01 + 50 * _normal(len(said), 1, seed=7).abs())
    centre = b[bank].mean(0)

    def accuracy(between) -> float:
        rows = read_in(said, targets, between)
        assert rows.shape == (ROWS - 400, 12)
        assert rows.dtype == torch.float32
        return knn_accuracy(b[bank] - centre, labels[bank], rows - centre, labels[queries])

    assert accuracy(fit_prior_transport(table_a, table_b)) > 0.9
    mixed = _table(tmp_path / "mixed", a[bank], "a", torch.randperm(400, generator=torch.Generator().manual_seed(8)))
    assert accuracy(fit_prior_transport(mixed, table_b)) < 0.45


def test_a_perfect_student_says_what_the_rows_say(
    spaces: tuple[Tensor, Tensor, np.ndarray], targets: TargetTransport, tmp_path: Path
) -> None:
    """Where every target is as long as the mean one, reading it is the transport of the rows themselves."""
    a, b, _ = spaces
    between = fit_prior_transport(_table(tmp_path / "a", a, "a"), _table(tmp_path / "b", b, "b"))
    said = targets(a)
    said = said / said.norm(dim=1, keepdim=True)
    rows_of_a = (
        said.double() * 8**0.5 * targets.scale.double()
    ) @ targets.components.double().T + targets.mean.double()
    slow = rows_of_a @ between.weight.double() + between.bias.double()
    torch.testing.assert_close(read_in(said * 17, targets, between).double(), slow, rtol=1e-4, atol=1e-4)


def test_wrong_ends_are_refused(
    spaces: tuple[Tensor, Tensor, np.ndarray], targets: TargetTransport, tmp_path: Path
) -> None:
    a, b, _ = spaces
    back = fit_prior_transport(_table(tmp_path / "b", b, "b"), _table(tmp_path / "a", a, "a"))
    with pytest.raises(TransportError, match=r"(?s)another prior.*dim, id differ.*id a.*id b.*transport fit"):
        read_in(torch.ones(2, 8), targets, back)
    forth = fit_prior_transport(_table(tmp_path / "a2", a, "a"), _table(tmp_path / "b2", b, "b"))
    for bad in (torch.ones(2, 9), torch.ones(8)):
        with pytest.raises(TransportError, match=r"not for these targets"):
            read_in(bad, targets, forth)
