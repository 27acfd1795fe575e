"""The demo from end to end: artefacts, four trainings, evaluation, report."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo._io.environment import environment
from rela_zoo._io.files import atomic_path, atomic_write
from rela_zoo._io.log import logger, speak
from rela_zoo.demo._digits import write_digits
from rela_zoo.demo._figure import draw
from rela_zoo.demo._report import Row, print_table, write_results
from rela_zoo.demo._student import HeldOut, Watch, read_held_out, score, score_table
from rela_zoo.embeddings import embed
from rela_zoo.hosts.builtin.compose import compose
from rela_zoo.hosts.builtin.progress import TrainingProgress
from rela_zoo.hosts.builtin.train import initial_method, train
from rela_zoo.prior import load_prior
from rela_zoo.registry import prior_spec
from rela_zoo.transport import fit_transport

log = logger(__name__)

PRIOR = "cifar10-resnet20"
_DRAWS = 5

# Prior → folder of its embeddings, file of their transport.
Artefacts = dict[str, tuple[Path, Path]]


@dataclass(frozen=True)
class Training:
    """One of the demo's trainings: its name in `results.json`, its prior, its fraction of the data an epoch."""

    name: str
    title: str
    prior: str | None
    data_ratio: float


def trainings(prior: str) -> tuple[Training, ...]:
    """What is compared. Those without the prior are the same whichever it is, and are kept from demo to demo.

    Args:
        prior: its id.
    """
    name = "rela-20" if prior == PRIOR else f"rela-20-{prior}"
    control = Training("rela-random-20", "ReLA 20 %, random prior", "random", 0.2)
    return (
        Training(name, f"ReLA 20 %, {prior}", prior, 0.2),
        *((control,) if prior != "random" else ()),
        Training("byol-20", "BYOL 20 %", None, 0.2),
        Training("byol-100", "BYOL 100 %", None, 1.0),
    )


def run_demo(
    output: Path,
    *,
    prior: str = PRIOR,
    seed: int = 0,
    epochs: int | None = None,
    fresh: bool = False,
) -> list[Row]:
    """Train and compare on scikit-learn's digits; write artefacts, `results.json` and `figure.png` to a folder.

    A training that was finished by an earlier, interrupted call with the same settings is kept, not repeated; one
    that was under way goes on from its last checkpoint.

    Args:
        output: folder to write to; made if missing.
        prior: its name, whatever `prior_spec` takes; `cifar10-resnet20` is shipped with the package.
        seed: of students, subsets and views.
        epochs: of each training; None for those of the packaged configuration, for which it is tuned.
        fresh: throw away what an earlier call has trained.

    Returns:
        One row a run, the untrained student first.

    Raises:
        UnknownPriorError: nothing has this name.
        WeightsError: the prior's weights are out of reach; the message says what it needs.
    """
    speak()
    spec = prior_spec(prior)
    planned = trainings(spec.id)
    started = time.monotonic()
    if fresh:
        shutil.rmtree(output / "runs", ignore_errors=True)
    train_folder, val_folder = write_digits(output / "data")
    log.info(f"data: scikit-learn's digits, 1437 + 360 images of 32×32, in {train_folder.parent}")
    held_out = read_held_out(train_folder, val_folder)
    artefacts: Artefacts = {}
    for one in dict.fromkeys((spec.id, "random")):
        network = load_prior(spec if one == spec.id else one)
        folder = output / "artefacts" / one
        table = embed(network, train_folder, folder / "embeddings")
        if one == spec.id:
            prior_scores = score_table(table, embed(network, val_folder, folder / "held-out"), draws=_DRAWS)
        transport = folder / "transport.safetensors"
        fit_transport(table).save(transport)
        artefacts[one] = (table.path, transport)
        log.info(
            f"prior {one}: {table.shape[0]} × {table.shape[1]} embeddings, transport fitted, in {transport.parent}"
        )

    configs = {
        training.name: _config(training, prior, artefacts, train_folder, output / "runs", seed, epochs)
        for training in planned
    }
    untrained: Any = initial_method(configs["byol-100"]).backbone
    scores = score(untrained, held_out, draws=_DRAWS)
    rows = [Row.of_scores("untrained", "untrained student", None, 0.0, scores, seed)]
    features = {"untrained student": scores.features}
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, training in enumerate(planned, start=1):
        cfg = configs[training.name]
        kept = _finished(training, cfg, output)
        state = " (done already)" if kept else ""
        log.info(f"training {number} of {len(planned)}: {training.title}{state}")
        row, cloud = kept or _train(training, cfg, output, held_out)
        rows.append(row)
        curves[training.title] = [(0, rows[0].few_label_accuracy), *((int(n), a) for n, a in row.curve)]
        features[training.title] = cloud
    shown = {f"prior {spec.id}, {prior_scores.features.shape[1]}-D": prior_scores.features}
    for title in ("untrained student", planned[0].title, planned[-1].title):
        shown[title] = features[title]
    draw(output / "figure.png", curves, rows[0].few_label_accuracy, shown, held_out.val_labels)
    settings = {key: cfg[key] for key in ("max_epochs", "optimizer", "momentum", "augmentations")}
    write_results(output / "results.json", rows, {spec.id: prior_scores}, environment(), settings)
    print_table(rows, prior_scores, spec.id, _DRAWS)
    log.info(f"results: {output / 'results.json'}\nfigure:  {output / 'figure.png'}")
    log.info(f"done in {time.monotonic() - started:.0f} s; artefacts, checkpoints and data are in {output}")
    return rows


def _config(
    training: Training, prior: str, artefacts: Artefacts, data: Path, runs: Path, seed: int, epochs: int | None
) -> dict[str, Any]:
    """The configuration of `rela-zoo pretrain --config-name demo …`, as plain data."""
    from omegaconf import OmegaConf

    overrides = [f"name={training.name}", f"seed={seed}", f"rela.data_ratio={training.data_ratio}"]
    if epochs is not None:
        overrides.append(f"max_epochs={epochs}")
    paths = {"data.train_path": data, "checkpoint.dir": runs}
    if training.prior is None:
        overrides.append("rela=default")
    else:
        overrides += [f"rela={'random' if training.prior == 'random' else prior}", "rela.augmentations=method"]
        paths["rela.embeddings"], paths["rela.transport"] = artefacts[training.prior]
    overrides += [f"{key}='{path.resolve()}'" for key, path in paths.items()]
    return OmegaConf.to_container(compose("demo", None, overrides), resolve=True)  # type: ignore[return-value]


def _result_file(training: Training, output: Path) -> Path:
    return output / "runs" / f"{training.name}.json"


def _finished(training: Training, cfg: dict[str, Any], output: Path) -> tuple[Row, np.ndarray] | None:
    """What an earlier call has kept of this training, if it was the same one."""
    path = _result_file(training, output)
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["config"] != json.loads(json.dumps(cfg)):
        return None
    return Row.of_json(kept["row"]), np.load(path.with_suffix(".npy"))


def _train(training: Training, cfg: dict[str, Any], output: Path, held_out: HeldOut) -> tuple[Row, np.ndarray]:
    watch = Watch(held_out, every=max(1, cfg["max_epochs"] // 3), draws=_DRAWS)
    result = train(cfg, callbacks=[watch, TrainingProgress()])
    method: Any = result.method
    scores = score(method.backbone, held_out, draws=_DRAWS)
    row = Row.of_scores(
        training.name,
        training.title,
        training.prior,
        training.data_ratio,
        scores,
        int(cfg["seed"]),
        samples_seen=result.samples_seen,
        wall_seconds=round(result.seconds - watch.seconds, 2),
        handover_step=method.rela.handover_step if training.prior is not None else None,
        curve=tuple(watch.points),
    )
    path = _result_file(training, output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
        np.save(file, scores.features)
    atomic_write(path, (json.dumps({"config": cfg, "row": asdict(row)}, indent=1) + "\n").encode("utf-8"))
    return row, scores.features
