"""Prior-to-prior transports against slow regressions, rotations and counts written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import Tensor

from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.errors import TransportError
from rela_zoo.transport import PriorTransport, TargetTransport, chain, fit_both_ways, fit_prior_transport
from rela_zoo.transport._moments import chunk_moments
from rela_zoo.transport._pair_gather import CHOOSE, HELD_OUT, role_of
from rela_zoo.transport._pair_maps import RidgePath, procrustes_map, r_squared, split_moments, whitened_map


def _rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _spaces(n: int = 400, dims: tuple[int, ...] = (6, 9, 4), noise: float = 0.3) -> list[Tensor]:
    shared = _rows(n, 4, 0)
    return [shared @ _rows(4, d, 10 + d) + noise * _rows(n, d, 20 + d) + d for d in dims]


def _table(folder: Path, rows: Tensor, name: str, order: list[int] | None = None) -> EmbeddingTable:
    order = order if order is not None else list(range(len(rows)))
    ids = [f"class/{i:05d}.png" for i in order]
    return write_rows(folder / name, [rows[order]], ids, prior={"id": name}, dtype="float32", shard_rows=64)


def _pair(x: Tensor, y: Tensor):
    return split_moments(chunk_moments(torch.cat([x, y], 1)), x.shape[1])


@pytest.mark.parametrize("strength", [1e-6, 0.1, 3.0])
def test_ridge_is_that_of_scikit_learn(strength: float) -> None:
    x, y, _ = _spaces()
    pair = _pair(x, y)
    alpha = strength * float(torch.linalg.eigvalsh(pair.xx).mean())
    slow = Ridge(alpha=alpha).fit(x.numpy(), y.numpy())
    mapping = RidgePath(pair).at(strength)
    np.testing.assert_allclose(mapping.weight.numpy(), slow.coef_.T, atol=1e-9)
    np.testing.assert_allclose(mapping.bias.numpy(), slow.intercept_, atol=1e-9)


def test_r_squared_from_moments_is_that_of_the_rows() -> None:
    x, y, _ = _spaces()
    mapping = RidgePath(_pair(x[:300], y[:300])).at(0.01)
    predicted = x[300:] @ mapping.weight + mapping.bias
    slow = r2_score(y[300:].numpy(), predicted.numpy(), multioutput="variance_weighted")
    assert r_squared(mapping, _pair(x[300:], y[300:])) == pytest.approx(slow, abs=1e-12)


def test_procrustes_finds_a_hidden_rotation_and_is_that_of_scipy() -> None:
    x = _rows(200, 5, 1) * torch.tensor([3.0, 2, 1, 0.5, 0.2])
    rotation = torch.linalg.qr(_rows(5, 5, 2))[0]
    mapping = procrustes_map(_pair(x, 2.5 * x @ rotation + 7))
    torch.testing.assert_close(mapping.weight, 2.5 * rotation)
    y = _rows(200, 5, 3) + x
    found = procrustes_map(_pair(x, y)).weight
    a, b = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy()
    slow, total = orthogonal_procrustes(a, b)
    np.testing.assert_allclose(found.numpy(), slow * total / (a**2).sum(), atol=1e-9)


@pytest.mark.parametrize("dims", [(4, 7), (7, 4)])
def test_rectangular_procrustes_is_the_square_one_with_features_of_zero(dims: tuple[int, int]) -> None:
    x, y = _spaces(dims=dims)
    wide = max(dims)
    a, b = (np.pad((z - z.mean(0)).numpy(), ((0, 0), (0, wide - z.shape[1]))) for z in (x, y))
    full, _ = orthogonal_procrustes(a, b)
    rotation = full[: dims[0], : dims[1]]
    moved = a[:, : dims[0]] @ rotation
    scale = (moved * b[:, : dims[1]]).sum() / (moved**2).sum()
    np.testing.assert_allclose(procrustes_map(_pair(x, y)).weight.numpy(), scale * rotation, atol=1e-8)


def test_the_whitened_map_keeps_the_variance_of_the_target() -> None:
    x, y, _ = _spaces(dims=(9, 6, 4))
    mapping = whitened_map(_pair(x, y))
    moved = x @ mapping.weight + mapping.bias
    torch.testing.assert_close(torch.cov(moved.T), torch.cov(y.T))
    exact = whitened_map(_pair(x, x @ _rows(9, 9, 5) + 1))
    torch.testing.assert_close(x @ exact.weight + exact.bias, x @ _rows(9, 9, 5) + 1)


def test_directions_that_do_not_vary_do_no_harm() -> None:
    x, y, _ = _spaces()
    flat = torch.cat([x, x[:, :2], torch.full((len(x), 1), 3.0)], 1)
    for solve in (lambda pair: RidgePath(pair).at(0.0), whitened_map, procrustes_map):
        mapping = solve(_pair(flat, y))
        assert torch.isfinite(mapping.weight).all()
    same = RidgePath(_pair(flat, y)).at(1e-8)
    assert r_squared(same, _pair(flat, y)) == pytest.approx(
        r_squared(RidgePath(_pair(x, y)).at(0.0), _pair(x, y)), abs=1e-6
    )


def test_a_fit_of_two_tables_joins_by_id_and_holds_samples_out(tmp_path: Path) -> None:
    x, y, _ = _spaces(600)
    order = np.random.default_rng(0).permutation(600)[:550].tolist()
    source, target = _table(tmp_path, x, "a"), _table(tmp_path, y, "b", order)
    transport = fit_prior_transport(source, target, chunk=37)
    parts = np.array([role_of(f"class/{i:05d}.png") for i in range(600)])
    both = np.isin(np.arange(600), order)
    fit, held = both & (parts != HELD_OUT), both & (parts == HELD_OUT)
    assert transport.rows_fitted == fit.sum()
    assert transport.quality is not None
    assert transport.quality.rows_held_out == held.sum()
    assert transport.strength is not None
    alpha = transport.strength * float(torch.linalg.eigvalsh(_pair(x[fit], y[fit]).xx).mean())
    slow = Ridge(alpha=alpha).fit(x[fit].numpy(), y[fit].numpy())
    np.testing.assert_allclose(transport.weight.numpy(), slow.coef_.T, atol=1e-4)
    predicted = slow.predict(x[held].numpy())
    r2 = r2_score(y[held].numpy(), predicted, multioutput="variance_weighted")
    assert transport.quality.r2 == pytest.approx(r2, abs=1e-5)
    assert (transport.source.prior, transport.target.digest) == ("a", target.digest)


def test_the_strength_is_that_which_the_choosing_part_likes_best(tmp_path: Path) -> None:
    # Few rows of many noisy features: without a penalty the fit is poor.
    x, y = _spaces(260, dims=(120, 5), noise=2.0)
    transport = fit_prior_transport(_table(tmp_path, x, "a"), _table(tmp_path, y, "b"))
    parts = np.array([role_of(f"class/{i:05d}.png") for i in range(260)])
    fit, choose = (parts != HELD_OUT) & (parts != CHOOSE), parts == CHOOSE
    mean = float(torch.linalg.eigvalsh(_pair(x[fit], y[fit]).xx).mean())
    scores = {}
    for half in range(-16, 5):
        strength = 10 ** (half / 2)
        model = Ridge(alpha=strength * mean).fit(x[fit].numpy(), y[fit].numpy())
        guess = model.predict(x[choose].numpy())
        scores[strength] = r2_score(y[choose].numpy(), guess, multioutput="variance_weighted")
    assert transport.strength == pytest.approx(max(scores, key=scores.__getitem__))
    assert transport.strength > 1e-3


def test_cosine_and_retrieval_are_counts_over_the_held_out_rows(tmp_path: Path) -> None:
    x, y, _ = _spaces(900, noise=0.8)
    transport = fit_prior_transport(_table(tmp_path, x, "a"), _table(tmp_path, y, "b"))
    held = [i for i in range(900) if role_of(f"class/{i:05d}.png") == HELD_OUT]
    mapped, true = transport(x[held]).double().numpy(), y[held].float().double().numpy()
    mapped, true = mapped - true.mean(0), true - true.mean(0)
    cosines, first, five = [], 0, 0
    for i in range(len(held)):
        row = [float(mapped[i] @ t / np.linalg.norm(mapped[i]) / np.linalg.norm(t)) for t in true]
        rank = sum(value > row[i] for value in row)
        cosines.append(row[i])
        first, five = first + (rank < 1), five + (rank < 5)
    quality = transport.quality
    assert quality is not None
    assert quality.retrieval_among == len(held)
    assert quality.cosine == pytest.approx(np.mean(cosines), abs=1e-5)
    assert quality.retrieval_at_1 == pytest.approx(first / len(held))
    assert quality.retrieval_at_5 == pytest.approx(five / len(held))
    assert 0 < quality.retrieval_at_1 < quality.retrieval_at_5 < 1


def test_a_map_of_unrelated_rows_is_worth_nothing(tmp_path: Path) -> None:
    a, b = _table(tmp_path, _rows(2000, 8, 1), "a"), _table(tmp_path, _rows(2000, 8, 2), "b")
    quality = fit_prior_transport(a, b).quality
    assert quality is not None
    assert quality.r2 < 0.02
    assert quality.retrieval_at_1 < 0.05


def test_a_chain_is_judged_like_a_direct_fit(tmp_path: Path) -> None:
    x, y, z = _spaces(800)
    a, b, c = _table(tmp_path, x, "a"), _table(tmp_path, y, "b"), _table(tmp_path, z, "c")
    first, second, direct = fit_prior_transport(a, b), fit_prior_transport(b, c), fit_prior_transport(a, c)
    through = chain(first, second, a, c)
    torch.testing.assert_close(through(x), second(first(x)), atol=1e-4, rtol=1e-4)
    held = np.array([role_of(f"class/{i:05d}.png") == HELD_OUT for i in range(800)])
    slow = r2_score(z[held].numpy(), through(x[held]).numpy(), multioutput="variance_weighted")
    assert through.quality is not None
    assert direct.quality is not None
    assert through.quality.r2 == pytest.approx(slow, abs=1e-5)
    assert 0.5 < through.quality.r2 <= direct.quality.r2 + 0.01
    with pytest.raises(TransportError, match="chain"):
        chain(second, first, a, c)


def test_a_square_map_of_full_rank_can_be_undone(tmp_path: Path) -> None:
    x = _rows(300, 5, 1)
    a, b = _table(tmp_path, x, "a"), _table(tmp_path, x @ _rows(5, 5, 2) + 1, "b")
    there = fit_prior_transport(a, b)
    back = there.inverse()
    torch.testing.assert_close(back(there(x)), x.float(), atol=1e-3, rtol=1e-3)
    assert (back.source.prior, back.quality) == ("b", None)


def test_a_saved_transport_is_the_same_and_others_are_refused(tmp_path: Path) -> None:
    x, y, _ = _spaces()
    transport = fit_prior_transport(_table(tmp_path, x, "a"), _table(tmp_path, y, "b"))
    path = tmp_path / "ab.safetensors"
    transport.save(path)
    again = PriorTransport.load(path)
    assert torch.equal(again.weight, transport.weight)
    assert again.quality == transport.quality
    assert (again.source, again.target, again.method, again.strength) == (
        transport.source, transport.target, transport.method, transport.strength,
    )  # fmt: skip
    with pytest.raises(TransportError, match="another kind"):
        TargetTransport.load(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-4])
    with pytest.raises(TransportError, match="truncated"):
        PriorTransport.load(path)
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["rela_zoo"])
    for key, value in (("method", "magic"), ("rows_fitted", -1), ("source", {"prior": 3}), ("quality", {"r2": "x"})):
        header["__metadata__"]["rela_zoo"] = json.dumps({**facts, key: value})
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
        with pytest.raises(TransportError, match="malformed"):
            PriorTransport.load(path)


def test_tables_without_common_samples_are_refused_with_examples(tmp_path: Path) -> None:
    x = _rows(50, 3, 1)
    a = write_rows(tmp_path / "a", [x], [f"a{i}" for i in range(50)], prior={"id": "a"})
    b = write_rows(tmp_path / "b", [x], [f"b{i}" for i in range(50)], prior={"id": "b"})
    with pytest.raises(TransportError, match=r"'a0'.*'b0'"):
        fit_prior_transport(a, b)


@pytest.mark.parametrize("method", ["ridge", "procrustes", "whitened"])
def test_both_ways_in_one_pass_are_the_two_fits(tmp_path: Path, method) -> None:
    x, y, _ = _spaces()
    a, b = _table(tmp_path, x, "a"), _table(tmp_path, y, "b", list(np.random.default_rng(0).permutation(400)))
    for found, alone in zip(
        fit_both_ways(a, b, method=method, chunk=37),
        (fit_prior_transport(a, b, method=method), fit_prior_transport(b, a, method=method)),
        strict=True,
    ):
        torch.testing.assert_close(found.weight, alone.weight, rtol=1e-4, atol=1e-5)
        assert (found.source, found.target, found.rows_fitted) == (alone.source, alone.target, alone.rows_fitted)
        assert found.quality is not None
        assert alone.quality is not None
        assert found.quality.r2 == pytest.approx(alone.quality.r2, abs=1e-6)
        assert found.quality.rows_held_out == alone.quality.rows_held_out
