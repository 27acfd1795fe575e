from __future__ import annotations

from pathlib import Path

import pytest
import torch
from experiments._data import Images, choose, read_images
from experiments._priors import embed, find_prior

CPU = torch.device("cpu")


def test_the_shipped_prior_is_the_packages(data: Path, tmp_path: Path) -> None:
    from rela_zoo import load_prior

    images = read_images(data / "train.parquet", tmp_path, 8, CPU)
    for name in ("cifar10-resnet20", "random"):
        prior = load_prior(name)
        mean, std = (
            torch.tensor(x).view(1, 3, 1, 1) for x in (prior.spec.preprocessing.mean, prior.spec.preprocessing.std)
        )
        with torch.no_grad():
            theirs = prior((images.pixels.float() / 255 - mean) / std)
        torch.testing.assert_close(embed(find_prior(name, None), images, tmp_path).rows, theirs, atol=1e-3, rtol=1e-3)


def test_rows_are_cached_with_what_they_cost(tmp_path: Path) -> None:
    images = Images(
        torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), torch.zeros(6, dtype=torch.long), "a" * 64
    )
    first, second = (embed(find_prior("cifar10-resnet20", None), images, tmp_path) for _ in range(2))
    assert torch.equal(first.rows, second.rows)
    assert (first.seconds, first.flops) == (second.seconds, second.flops)
    # 40.8 M multiply-adds an image (He et al. 2015: 41 M).
    assert first.flops == pytest.approx(6 * 2 * 40.8e6, rel=0.02)
    other = embed(find_prior("cifar10-resnet20", None), Images(images.pixels + 1, images.labels, "b" * 64), tmp_path)
    assert not torch.equal(first.rows, other.rows)


def test_missing_priors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--priors"):
        find_prior("resnet56", tmp_path)
    with pytest.raises(ValueError, match="expected a prior"):
        find_prior("clip", tmp_path)


def test_images_are_chosen_once_and_for_all(data: Path, tmp_path: Path) -> None:
    assert choose(100, 10).tolist() == choose(100, 10).tolist()
    assert len(set(choose(100, 10).tolist())) == 10
    assert choose(10, None).tolist() == choose(10, 50).tolist() == list(range(10))
    first, cached = (read_images(data / "train.parquet", tmp_path, 5, CPU) for _ in range(2))
    assert torch.equal(first.pixels, cached.pixels)
    assert first.labels.tolist() == [i % 2 for i in choose(80, 5)]
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_data_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="point --data"):
        read_images(tmp_path / "train.parquet", tmp_path, None, CPU)
