"""What a wrapped method does with its `rela` section: set up once, then batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo.data.views import RELA_VIEW, build_views, find_normalisation
from rela_zoo.engine._artefacts import Targets, resolve_targets
from rela_zoo.engine._epochs import patch_epoch_length
from rela_zoo.engine._loader import base_dataset, rebuild_loader, to_device, train_loader
from rela_zoo.engine._selection import run_subset
from rela_zoo.engine._stage import StageControl
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.objective import cosine_discrepancy
from rela_zoo.errors import ConfigError, Problem, RelaZooError
from rela_zoo.selection.subset import Subset, SubsetSampler

# A module → None, or an object with `source` (an ImageSource) and `rebuild(config, subset)` → (sampler, loader).
OtherData = Callable[[Any], Any]


class RelaRun:
    """The `rela` section at work in one training run. Holds no parameters; the head belongs to the module.

    Args:
        config: the checked section.
        other_data: the host's way to say that training data come otherwise than by a DataLoader; see `with_rela`.
    """

    def __init__(self, config: RelaConfig, other_data: OtherData | None = None) -> None:
        self._config, self._other_data = config, other_data
        self._targets: Targets | None = None
        self._stage: StageControl | None = None
        self._sampler: SubsetSampler | None = None
        self._indices: Tensor | None = None
        self._dim = 0

    # ── once ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, module: Any) -> None:
        """Resolve artefacts, build the head, rebuild the loader. In `setup`: before DDP wraps and schedules are sized.

        Raises:
            RelaZooError: for everything about configuration, data and artefacts that would spoil the run.
        """
        trainer, config = module.trainer, self._config
        seed = config.seed if config.seed is not None else int(module.cfg.get("seed", None) or 0)
        other = self._other_data(module) if self._other_data is not None else None
        dataset = base_dataset(train_loader(trainer)) if other is None else other.source
        say = partial(_say, module)
        source: Any = None
        if config.needs_embeddings or config.selection.needs_ids:
            from rela_zoo.data import image_source

            source = image_source(dataset)
        device, rank = trainer.strategy.root_device, trainer.global_rank
        if config.needs_embeddings:
            self._targets = resolve_targets(config, source, device=device, rank=rank, say=say)
        subset = run_subset(
            config,
            n=len(dataset),
            seed=seed,
            epochs=trainer.max_epochs,
            source=source,
            targets=self._targets,
            device=device,
            rank=rank,
            say=say,
        )
        if config.accelerates:
            self._build_head(module, seed)
        if other is not None:
            sampler, loader = other.rebuild(config, subset)
        else:
            views = self._accelerated_views(module, dataset) if config.accelerates else None
            sampler, loader = rebuild_loader(trainer, subset, accelerated_views=views)
        self._sampler = sampler
        if subset.counts is not None:
            patch_epoch_length(trainer, sampler)
        self._stage = StageControl(config, sampler, trainer, loader)
        if config.accelerates and hasattr(trainer.strategy, "_ddp_kwargs"):
            # Projectors have no gradient in the accelerated stage, a trained head none after it.
            trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
        say(self._banner(subset))

    def record_artefacts(self, module: Any) -> None:
        """Write `rela.lock` into the run's folder, once the host knows it; with --locked, compare with it instead.

        Raises:
            HubError: locked, and the run would use other artefacts, or has no folder.
        """
        from rela_zoo.hub import is_locked, write_lock

        if self._targets is None or module.trainer.global_rank != 0:
            return
        folder = _run_folder(module.trainer)
        if folder is not None:
            write_lock(folder, self._targets.artefacts)
        elif is_locked():
            fix = "set checkpoint.enabled=true"
            raise ConfigError([Problem("checkpoint.enabled", "a run with a folder to lock", "no folder", fix)])

    def _build_head(self, module: Any, seed: int) -> None:
        targets = self._targets
        assert targets is not None
        features = getattr(module, "features_dim", None)
        if not features:
            fix = "choose a backbone whose class sets features_dim"
            raise ConfigError([Problem("backbone.name", "a student with features", f"features_dim={features}", fix)])
        targets.transport = targets.transport.to(module.trainer.strategy.root_device)
        self._dim = min(int(features), targets.transport.components.shape[1])
        # Its own seed, without touching the run's generator: every rank gets the same head, and adding a head does
        # not change how anything else is initialised.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            head = nn.Linear(int(features), self._dim)
        module.rela_head = head.requires_grad_(self.trains_head)

    def _accelerated_views(self, module: Any, dataset: Any) -> Any | None:
        augmentations = self._config.augmentations
        if augmentations == "method":
            return None
        found = find_normalisation(getattr(dataset, "transform", None))
        if found is None:
            fix = "set rela.augmentations=method to keep the method's own views in both stages"
            got = type(getattr(dataset, "transform", None)).__name__
            raise ConfigError([Problem("augmentations", "views that end in Normalize", got, fix)])
        if isinstance(augmentations, str):
            size = int(module.cfg.augmentations[0].crop_size)
            return build_views([{**RELA_VIEW, "crop_size": size, "num_crops": module.num_large_crops}], *found)
        views = build_views(augmentations, *found)
        if (count := sum(times for _, times in views.views)) != module.num_large_crops:
            fix = f"give views whose num_crops sum to {module.num_large_crops}"
            raise ConfigError([Problem("rela.augmentations", f"{module.num_large_crops} views", f"{count}", fix)])
        return views

    def _banner(self, subset: Subset) -> str:
        config, lines = self._config, []
        of = f"{config.data_ratio:g} of {subset.n} samples"
        ratio = f"{of}: {len(subset)} in each epoch, drawn afresh"
        if subset.counts is not None:
            ratio = f"{of} on average, from {subset.counts[0]} to {subset.counts[-1]} in an epoch, drawn afresh"
        if config.selection.name != "uniform":
            ratio += f"; selection {config.selection}"
        if self._targets is None:
            return f"rela_zoo is active · no prior: the method's own stage from the start\n  data    {ratio}"
        table, transport = self._targets.table, self._targets.transport
        lines.append(f"rela_zoo is active · prior {config.prior} ({config.preprocessing} preprocessing)")
        lines.append(f"  rows    {table.shape[0]} × {table.shape[1]}, digest {table.digest[:12]}")
        if config.accelerates:
            explained = sum(transport.stats.explained_variance_ratio[: self._dim])
            lines.append(f"  targets {self._dim} dimensions, {explained:.1%} of the variance; head {config.head}")
        lines.append(f"  data    {ratio}")
        rule = f"accelerated first; handover {config.handover}, at the next {config.handover_at}"
        lines.append(f"  stages  {rule if config.accelerates else 'the method’s own from the start'}")
        return "\n".join(lines)

    # ── batch by batch ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def trains_head(self) -> bool:
        """Whether the head is in the optimiser."""
        return self._config.accelerates and self._config.head == "trained"

    @property
    def handover_step(self) -> int | None:
        """Optimiser steps made when the method's own stage began; None while it has not."""
        return self._stage.handover_step if self._stage is not None else None

    def own_epoch(self, epoch: int) -> int:
        """How many epochs of the method's own stage lie behind the start of `epoch` (0, 1, …) of the training."""
        if self._stage is None:
            return epoch
        return 0 if self._stage.handover_epoch is None else max(0, epoch - self._stage.handover_epoch)

    def note_indices(self, indices: Any) -> None:
        """Remember which samples the next batch holds, while their indices are on the CPU."""
        self._indices = indices if isinstance(indices, Tensor) else None

    def weights(self, device: torch.device) -> Tensor | None:
        """Weights of the batch's samples: (B,) float32 on `device`, or None for no weights."""
        assert self._sampler is not None
        if self._indices is None:
            return None
        weights = self._sampler.weights(self._indices.cpu())
        return None if weights is None else to_device(weights, device)

    def own_stage(self, module: Any, batch_idx: int) -> bool:
        """Called with each batch; whether it gets the method's own loss."""
        assert self._stage is not None
        if self._stage.before_batch(module.trainer, batch_idx):
            _say(module, f"rela_zoo: handover to {module.cfg.method} at step {self._stage.handover_step}")
        return self._stage.in_own_stage(batch_idx)

    def loss(self, module: Any, features: list[Tensor], weights: Tensor | None) -> Tensor:
        """The accelerated loss of one batch: mean over views and samples of 1 − cos, weighted (scalar).

        Args:
            module: the wrapped method.
            features: of each view, (B, features_dim), with gradient.
            weights: (B,) of the samples, or None.
        """
        targets, stage, indices = self._targets, self._stage, self._indices
        assert targets is not None
        assert stage is not None
        assert indices is not None
        device = features[0].device
        rows = to_device(targets.rows(indices.cpu()), device)
        wanted = targets.transport(rows, dim=self._dim)
        losses = torch.stack([cosine_discrepancy(module.rela_head(f), wanted) for f in features]).mean(dim=0)
        stage.observe(indices, losses.detach())
        loss = losses.mean() if weights is None else (weights * losses).mean()
        stage.record(loss.detach())
        module.log("train_rela_loss", loss, on_epoch=True, sync_dist=True)
        return loss

    def after_batch(self, module: Any, batch_idx: int) -> None:
        """Fold the step into the averages, and decide where a decision is due."""
        assert self._stage is not None
        accelerated = not self._stage.in_own_stage(batch_idx)
        self._stage.after_batch(module.trainer, batch_idx)
        if accelerated:
            averages = {f"rela_{name}": value.float() for name, value in self._stage.averages.items()}
            module.log_dict(averages)

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what decides the stages and subsets; the head is in the state dict, the table stays where it is."""
        if self._stage is not None:
            digest = self._targets.table.digest if self._targets is not None else None
            # solo-learn forgets how far the momentum has risen, and would make the first step at its start again.
            tau = getattr(getattr(module, "momentum_updater", None), "cur_tau", None)
            checkpoint["rela"] = {**self._stage.state_dict(module.trainer), "embeddings": digest, "tau": tau}

    def load(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint; called between `setup` and the first batch.

        Raises:
            RelaZooError: if the checkpoint is of a run without `rela`, or over other data or embeddings.
        """
        if self._stage is None:
            return
        state = checkpoint.get("rela")
        if state is None:
            raise RelaZooError(
                "this checkpoint is of a run without rela",
                expected="a checkpoint with the state of its stages",
                got="none",
                fix="start a new run, or remove `rela` from the configuration",
            )
        digest = self._targets.table.digest if self._targets is not None else None
        if state["embeddings"] != digest:
            raise RelaZooError(
                "this checkpoint was trained on other embeddings",
                expected=f"digest {state['embeddings']}",
                got=f"digest {digest}",
                fix="point rela.embeddings at the artefact of that run, or start a new run",
            )
        # The epoch to be run next; `checkpoint["epoch"]` is one too low after a finished epoch. Set here because the
        # first iterator is made before Lightning tells the sampler.
        epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        self._stage.load_state_dict(state, epoch)
        if state.get("tau") is not None:
            module.momentum_updater.cur_tau = state["tau"]


def _say(module: Any, text: str) -> None:
    if module.trainer.is_global_zero:
        print(text, flush=True)


def _run_folder(trainer: Any) -> Path | None:
    """Where the host's checkpoint callback writes: `folder` here, `path` in solo-learn; None without one."""
    for callback in trainer.callbacks:
        place = getattr(callback, "folder", None) or getattr(callback, "path", None)
        if type(callback).__name__ == "Checkpointer" and isinstance(place, str | Path):
            return Path(place)
    return None
