"""ReLA in one training run, whatever the loop: targets, head, subsets, stage and handover, loss, state.

Takes numbers and tensors, and knows nothing of a trainer. The hosts are thin adapters around it; a loop of one's own
needs no adapter (`scripts/examples/plain_loop.py`).

Source: ReLA (arXiv 2405.14669); reference code LINs-lab/ReLA at 0223046.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rela_zoo._io.device import to_device
from rela_zoo._io.log import logger, speak
from rela_zoo.engine._banner import banner
from rela_zoo.engine._plan import RelaPlan, plan_rela
from rela_zoo.engine._rules import refuse_too_short
from rela_zoo.engine._selection import run_subset
from rela_zoo.engine._shape import RunShape
from rela_zoo.engine._stage import StageControl, Step
from rela_zoo.engine._views import ViewShape, accelerated_views
from rela_zoo.engine.alignment import Alignment
from rela_zoo.engine.config import RelaConfig
from rela_zoo.engine.finite import LossWatch
from rela_zoo.engine.sampler import StagedDataset, SubsetSampler
from rela_zoo.engine.surpass import judge_of, refuse_unjudged
from rela_zoo.engine.targets import Student, Targets, resolve_all
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from rela_zoo.hub import Artefact

log = logger(__name__)


class Accelerator:
    """The accelerated stage in front of any method's own.

    Made before the optimiser: a trained head has parameters. Missing embeddings are computed here.

    Args:
        data: the training images in the order of their indices: whatever `image_source` takes.
        features_dim: width of the student's features, m.
        run: how long the training is.
        rela: keys of the `rela` section (documented in `rela_zoo/conf/rela/default.yaml`), or a plan made of one.
        device: where features, head and targets live.
        student: the network to be trained, for `rela.prior=self`.
        num_workers: processes that decode images while missing embeddings are computed; None chooses, as for `embed`.

    Attributes:
        config: the checked section.
        sampler: gives a loader the subset of each epoch; hosts that shard samplers leave it alone.
        targets: the rows and their transport, for each prior; empty where no embeddings are used.

    Raises:
        ConfigError: mistakes in `rela`, or a subset smaller than a batch; every problem that can be found.
        RelaZooError: for everything about data and artefacts that would spoil the run.

    Examples:
        >>> import numpy as np, torch
        >>> from rela_zoo import Accelerator, RunShape
        >>> images = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)
        >>> rela = {"prior": "cifar10-resnet20", "data_ratio": 0.5, "handover": 0.5}
        >>> accelerator = Accelerator(images, features_dim=16, run=RunShape(batch_size=8, epochs=2), rela=rela)
        >>> loader = [(torch.arange(8), torch.randn(8, 16))]  # indices, and what a student made of the images
        >>> for accelerated, (indices, features) in accelerator.batches(loader, epoch=0):
        ...     loss = accelerator.loss([features], indices)
        >>> accelerated, loss.shape
        (True, torch.Size([]))
    """

    def __init__(
        self,
        data: Any,
        *,
        features_dim: int | None,
        run: RunShape,
        rela: Mapping[str, Any] | RelaConfig | RelaPlan,
        device: str | torch.device = "cpu",
        student: Student | None = None,
        num_workers: int | None = None,
    ) -> None:
        speak()
        plan = rela if isinstance(rela, RelaPlan) else plan_rela(rela)
        self.config, self._run, self.device = plan.config, run, torch.device(device)
        self.seed = run.seed if self.config.seed is None else self.config.seed
        refuse_too_short(self.config, run)
        # First of all losses that is not finite; hosts note their total losses too, with `note_loss`.
        self.watch = LossWatch(run.method, run.processes)
        self._at, self._accelerated, self._mixed = 0, self.config.accelerates, False
        source: Any = None
        if self.config.needs_embeddings or self.config.selection.needs_ids:
            from rela_zoo.data import image_source

            source = image_source(data)
        refuse_unjudged(self.config, student, source)
        self.targets: tuple[Targets, ...] = ()
        if self.config.needs_embeddings:
            self.targets = resolve_all(plan, source, student=student, device=self.device, num_workers=num_workers)
        subset = run_subset(
            self.config,
            n=len(data if source is None else source),
            seed=self.seed,
            epochs=run.length,
            source=source,
            targets=self.targets[0] if self.targets else None,
            device=self.device,
        )
        self._alignment: Alignment | None = None
        if self.config.has_targets:
            self._alignment = Alignment(self.config, self.targets, features_dim, self.seed, self.device)
        self.sampler: SubsetSampler = run.sampler(subset)
        judge = judge_of(self.config, student, source, self.targets, self.seed, self.device)
        self._stage = StageControl(self.config, self.sampler, run, judge)
        self._steps = 0

    @property
    def head(self) -> nn.Module | None:
        """m → k; a `ModuleList` of one for each prior where there are several; None without the accelerated loss."""
        return None if self._alignment is None else self._alignment.head

    @property
    def dims(self) -> tuple[int, ...]:
        """k, width of the targets, for each prior; empty without the accelerated loss."""
        return () if self._alignment is None else self._alignment.dims

    # ── what a loop is built from ─────────────────────────────────────────────────────────────────────────────────

    @property
    def trains_head(self) -> bool:
        """Whether the head belongs into the optimiser."""
        return self.config.has_targets and self.config.head != "frozen"

    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser has to train besides the student: the head's parameters, or none."""
        return list(self.head.parameters()) if self.head is not None and self.trains_head else []

    def views(self, own: Any, shape: ViewShape) -> Any | None:
        """The transform of the accelerated stage, or None where the method's own views are kept.

        Args:
            own: the method's own transform, which tells mean and deviation of the pixels.
            shape: size and number of the views.

        Raises:
            ConfigError: no normalisation can be found in `own`, or `rela.augmentations` lists another number of views.
        """
        return accelerated_views(self.config.augmentations, own, shape) if self.config.accelerates else None

    def dataset(self, base: Any, accelerated: Any | None = None, *, indexed: bool = True) -> StagedDataset:
        """The data set for a loader with `sampler`: the views of the stage, chance by seed, epoch and index alone.

        Args:
            base: map-style, applies its `transform` attribute in `__getitem__`.
            accelerated: transform of the accelerated stage; None for the data set's own in both.
            indexed: whether the items of `base` carry their index; else it is put in front: (index, item…).
        """
        return StagedDataset(base, accelerated, self.seed, indexed=indexed)

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """Which embeddings, transport and weights are used, for a lock file."""
        return tuple(artefact for one in self.targets for artefact in one.artefacts)

    def optimiser_steps(self, epochs: int) -> int:
        """Optimiser steps of the first `epochs` epochs."""
        return self._run.optimiser_steps(self.sampler, epochs)

    # ── a plain loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def batches(self, loader: Iterable[Any], epoch: int) -> Iterator[Step]:
        """The batches of one epoch, each with its stage. The loop makes an optimiser step after each.

        With `run.accumulate` above 1 it makes one after so many batches, and one after the last.

        Args:
            loader: draws from `sampler`, and drops an incomplete last batch.
            epoch: 0, 1, …, counted over the whole training.
        """
        self.start_epoch(epoch)
        workers = getattr(loader, "num_workers", 0) * (getattr(loader, "prefetch_factor", None) or 0)
        self.set_in_flight(workers + 1)
        number = -1
        for number, batch in enumerate(loader):
            accelerated = self.begin_batch(number, step=self._steps)
            yield Step(accelerated, batch)
            if (number + 1) % self._run.accumulate == 0:
                self._steps += 1
            self.end_batch(number, step=self._steps)
        if (number + 1) % self._run.accumulate:
            self._steps += 1
        self.end_epoch(epoch, step=self._steps)

    @property
    def epoch(self) -> int:
        """The epoch under way, or, after its end and after `load_state_dict`, the one to come."""
        return self._stage.epoch

    # ── hosts with hooks of their own ─────────────────────────────────────────────────────────────────────────────

    def set_in_flight(self, batches: int) -> None:
        """How many batches a loader may have drawn that are not trained on yet, at most: with the one under way.

        A handover inside an epoch comes after them, so that no batch mixes the two stages.
        """
        self._stage.in_flight = batches

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins; its samples are drawn when the loader asks for the first."""
        self._stage.start_epoch(epoch)

    def begin_batch(self, batch: int, *, step: int) -> bool:
        """Called before each batch; whether it gets the accelerated loss.

        Args:
            batch: its number in the epoch, 0, 1, …
            step: optimiser steps made so far, over all epochs.
        """
        if self._stage.before_batch(batch, step):
            log.info(f"rela_zoo: handover to {self._run.method} at step {step}")
        self._at, self._accelerated, self._mixed = step, not self._stage.in_own_stage(batch), False
        return self._accelerated

    def end_batch(self, batch: int, *, step: int) -> None:
        """Called after each batch, with the optimiser steps made by then."""
        if self.config.mixes and not self._accelerated and not self._mixed:
            fix = "pass the method's loss through `mixed` in the method's own stage, or set rela.mix=0.0"
            raise RelaZooError("rela.mix is set, and the batch was trained on without it", fix=fix)
        self._stage.after_batch(batch, step)
        if step != self._at and step % self._run.read_every == 0:
            self.watch.check()

    def end_epoch(self, epoch: int, *, step: int) -> None:
        """Called after the last batch of an epoch, instead of `end_batch` or after it; again changes nothing."""
        self.watch.check()
        self._stage.fold(step)
        self._stage.end_epoch(epoch)
        if self._alignment is not None:
            self._alignment.end_epoch()

    def note_loss(self, loss: Tensor) -> None:
        """The whole loss of the batch under way, of either stage; the first that is not finite ends the training.

        It is found out at the latest every `read_every` steps and at the end of the epoch, by `end_batch` and
        `end_epoch`, which raise `TrainingError`.
        """
        self.watch.note(loss, step=self._at, accelerated=self._accelerated)

    def fold(self, step: int) -> None:
        """Take noted losses into the averages, before a checkpoint inside an epoch is taken."""
        self._stage.fold(step)

    def weights(self, indices: Tensor) -> Tensor | None:
        """Weights of the samples of a batch, (B,) float32 on the accelerator's device; None for no weights."""
        weights = self.sampler.weights(indices.cpu())
        return None if weights is None else to_device(weights, self.device)

    def loss(self, features: Sequence[Tensor], indices: Tensor) -> Tensor:
        """The accelerated loss of one batch: mean over views and samples of 1 − cos(head(features), target).

        Args:
            features: of each view, (B, m) with gradient.
            indices: (B,) int64, which samples; on the CPU they are read without waiting for a GPU.

        Returns:
            The loss, scalar; samples count by their weights, if the selection has any.

        Raises:
            RelaZooError: there is no accelerated stage.
        """
        losses, loss = self._discrepancies(features, indices)
        self._stage.observe(to_device(indices, losses.device), losses.detach())
        self._stage.record(loss.detach())
        self.note_loss(loss)
        return loss

    def mixed(self, own: Tensor, features: Sequence[Tensor], indices: Tensor) -> Tensor:
        """In the method's own stage: λ · accelerated loss + (1 − λ) · own loss, with λ by `rela.mix`.

        Args:
            own: the method's loss of the batch, scalar.
            features: as for `loss`.
            indices: as for `loss`.

        Returns:
            The mixture, scalar; `own` itself where λ is 0.
        """
        share = self.share
        self._mixed = True
        if not share:
            return own
        _, loss = self._discrepancies(features, indices)
        return share * loss + (1.0 - share) * own

    def _discrepancies(self, features: Sequence[Tensor], indices: Tensor) -> tuple[Tensor, Tensor]:
        if self._alignment is None:
            fix = "name a prior in rela.prior, and ask `begin_batch` or `batches` for the stage"
            raise RelaZooError("there is no accelerated stage, and so no loss of it", got=f"{self.config}", fix=fix)
        here = indices.cpu()
        return self._alignment(features, here, self.weights(here))

    @property
    def share(self) -> float:
        """λ, the share of the accelerated loss in the method's own stage, by `rela.mix`, at the batch under way."""
        return self._stage.share(self._at)

    def own_schedule(self, step: int, total: int) -> tuple[int, int]:
        """Where schedules stand at a step, as (step, length), by `rela.rewarm`.

        With it, learning rates and momentum begin anew at the handover, squeezed into what remains; without it, and
        before the handover, they run over the whole training.

        Args:
            step: optimiser steps made.
            total: of the whole training.
        """
        return self._stage.remaining(step, total) if self.config.rewarm else (step, total)

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole training; None for an open end."""
        return self._stage.total

    # ── what can be asked at any time ─────────────────────────────────────────────────────────────────────────────

    @property
    def handover_step(self) -> int | None:
        """Optimiser steps made when the method's own stage began; None while it has not."""
        return self._stage.handover_step

    def steps_by_stage(self, steps: int) -> tuple[int, int]:
        """Of so many optimiser steps made in all: those of the accelerated stage, and those of the method's own."""
        return self._stage.by_stage(steps)

    def own_epoch(self, epoch: int) -> int:
        """How many epochs of the method's own stage lie behind the start of `epoch` (0, 1, …) of the training."""
        return self._stage.own_epoch(epoch)

    @property
    def averages(self) -> dict[str, Tensor]:
        """`slow`, `fast` and `rho` of the adaptive rule, on their device, to be logged; else empty."""
        return self._stage.averages

    def banner(self, views: str = "") -> str:
        """What is about to happen, for the user, on a few lines.

        Args:
            views: what the host has to say of them.
        """
        lines = banner(self.config, self._run, self.sampler, self._stage, self.targets, self.dims)
        return f"{lines}\n  views   {views}" if views else lines

    @property
    def _digest(self) -> str | None:
        """Of the embeddings of all priors."""
        return ",".join(one.table.digest for one in self.targets) or None

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────

    def state_dict(self, *, head: bool = True) -> dict[str, Any]:
        """Everything that a checkpoint must hold to go on as if nothing had happened; the table stays where it is.

        Args:
            head: whether to put the head in; not where it is part of a module that is saved anyway.
        """
        state = {**self._stage.state_dict(), "embeddings": self._digest, "steps": self._steps}
        if head and self.head is not None:
            state["head"] = self.head.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any], epoch: int | None = None) -> None:
        """Go on from what `state_dict` gave.

        Args:
            state: of a run with the same `rela`, data and seed.
            epoch: the epoch to be run next, where the host knows better than the state.

        Raises:
            RelaZooError: if the state is of a run over other data or embeddings.
        """
        digest = self._digest
        if state["embeddings"] != digest:
            raise RelaZooError(
                "this checkpoint was trained on other embeddings",
                expected=f"digest {state['embeddings']}",
                got=f"digest {digest}",
                fix="point rela.embeddings at the artefact of that run, or start a new run",
            )
        self._stage.load_state_dict(dict(state), epoch)
        self._steps = int(state.get("steps", 0))
        if self.head is not None and "head" in state:
            self.head.load_state_dict(state["head"])
