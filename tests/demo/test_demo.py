"""The demo from end to end, at one epoch; and its parts."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder

from rela_zoo import embed, load_prior
from rela_zoo.analysis.evaluate import extract_features
from rela_zoo.demo import run_demo
from rela_zoo.demo._digits import write_digits
from rela_zoo.demo._figure import draw
from rela_zoo.demo._run import Training, trainings
from rela_zoo.demo._student import score_features, score_table
from rela_zoo.errors import UnknownPriorError, WeightsError


def test_digits_become_a_folder_of_all_images(tmp_path):
    train, val = write_digits(tmp_path)
    names = {path.stem for folder in (train, val) for path in folder.glob("*/*.png")}
    assert len(list(train.glob("*/*.png"))) == 1437
    assert len(list(val.glob("*/*.png"))) == 360
    assert names == {f"{i:04d}" for i in range(1797)}
    digits = load_digits()
    for path in list(val.glob("*/*.png"))[:20]:
        assert int(path.parent.name) == digits.target[int(path.stem)]
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (32, 32)
        # Averaged back to 8×8 it is the digit that it came from, up to the enlargement's smoothing.
        small = pixels.reshape(8, 4, 8, 4).mean(axis=(1, 3)).ravel()
        assert np.corrcoef(small, digits.data[int(path.stem)])[0, 1] > 0.95


def test_an_interrupted_folder_is_completed(tmp_path):
    train, _ = write_digits(tmp_path)
    lost = sorted(train.glob("*/*.png"))[5]
    before = lost.read_bytes()
    lost.unlink()
    lost.with_name(lost.name + ".partial").write_bytes(b"half")
    write_digits(tmp_path)
    assert lost.read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))


def test_the_figure_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    curves = {name: [(0, 0.3), (1000, 0.5), (4000, 0.7)] for name in "abcd"}
    draw(tmp_path / "f.png", curves, 0.3, {name: rng.normal(size=(60, 8)) for name in "abcd"}, rng.integers(0, 10, 60))
    assert Image.open(tmp_path / "f.png").size == (1430, 598)


def test_trainings_with_another_prior_have_names_of_their_own():
    """So that neither results nor checkpoints of two priors in one folder are taken for each other."""
    shipped, other = trainings("cifar10-resnet20"), trainings("imagenet1k-efficientnet-lite0")
    assert [one.name for one in shipped] == ["rela-20", "rela-random-20", "byol-20", "byol-100"]
    assert other[0] == Training(
        "rela-20-imagenet1k-efficientnet-lite0",
        "ReLA 20 %, imagenet1k-efficientnet-lite0",
        "imagenet1k-efficientnet-lite0",
        0.2,
    )
    assert other[1:] == shipped[1:]
    names = [one.name for one in trainings("random")]
    assert len(set(names)) == len(names) == 3


def test_a_prior_that_is_not_ready_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    with pytest.raises(UnknownPriorError):
        run_demo(tmp_path / "demo", prior="no-such-prior")
    assert not (tmp_path / "demo").exists()
    with pytest.raises(WeightsError, match="not on this machine"):
        run_demo(tmp_path / "demo", prior="cifar100-resnet18")
    assert not (tmp_path / "demo" / "runs").exists()


def test_a_prior_is_scored_by_its_embeddings_as_by_itself(tmp_path):
    """The classes come from sample ids, the features from stored float16 rows."""
    folders = []
    for part in ("train", "val"):
        for label in "01":
            (tmp_path / part / label).mkdir(parents=True)
        folders.append(tmp_path / part)
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8) + np.uint8(120 * (number % 2))
        folder = folders[number >= 40] / str(number % 2)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    tables = [embed("cifar10-resnet20", folder, tmp_path / f"rows-{folder.name}") for folder in folders]
    scores = score_table(*tables, draws=2)
    prior = load_prior("cifar10-resnet20")
    parts = [ImageFolder(str(folder), transform=prior.transform) for folder in folders]
    (x, y), (x_val, y_val) = (extract_features(prior, part) for part in parts)
    direct = score_features(x, y, x_val, y_val, draws=2)
    assert (scores.probe, scores.knn, scores.few_label) == (direct.probe, direct.knn, direct.few_label)
    np.testing.assert_allclose(scores.features, x_val, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    return output, run_demo(output, epochs=1)


@pytest.mark.slow
def test_results_are_complete(finished):
    output, rows = finished
    results = json.loads((output / "results.json").read_text())
    runs = {run["name"]: run for run in results["runs"]}
    assert list(runs) == ["untrained", "rela-20", "rela-random-20", "byol-20", "byol-100"]
    wanted = {
        *("name", "prior", "data_ratio", "probe_accuracy", "few_label_accuracy", "knn_accuracy"),
        *("samples_seen", "wall_seconds", "handover_step", "seed"),
    }
    assert all(wanted <= set(run) for run in runs.values())
    assert [run["prior"] for run in runs.values()] == [None, "cifar10-resnet20", "random", None, None]
    # 287 of 1437 samples in batches of 32: eight full ones; all of them: 44.
    assert [run["samples_seen"] for run in runs.values()] == [0, 256, 256, 256, 1408]
    assert all(0 <= run[key] <= 1 for run in runs.values() for key in wanted if key.endswith("accuracy"))
    assert runs["rela-20"]["wall_seconds"] > 0
    assert len(rows) == 5
    for key in ("python", "cpu", "cores", "versions"):
        assert results["environment"][key]


@pytest.mark.slow
def test_artefacts_are_left_behind(finished):
    from rela_zoo import TargetTransport, open_embeddings

    output, _ = finished
    table = open_embeddings(output / "artefacts" / "cifar10-resnet20" / "embeddings", verify="full")
    assert table.shape == (1437, 64)
    transport = TargetTransport.load(output / "artefacts" / "cifar10-resnet20" / "transport.safetensors")
    assert transport.stats.source_digest == table.digest
    assert Image.open(output / "figure.png").size[0] > 1000


@pytest.mark.slow
def test_what_is_finished_is_kept(finished, monkeypatch):
    import rela_zoo.demo._run as demo

    output, rows = finished

    def never(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(demo, "train", never)
    assert demo.run_demo(Path(output), epochs=1) == rows
    with pytest.raises(AssertionError, match="trained again"):
        demo.run_demo(Path(output), epochs=1, seed=1)
