"""What solo-learn's programs are peculiar in."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
import torch

from rela_zoo.engine import Accelerator
from rela_zoo.engine.config import RelaConfig
from rela_zoo.errors import Problem
from rela_zoo.hosts.host import Host
from rela_zoo.hosts.lightning import TrainingData
from rela_zoo.hosts.protocols import HasMomentum, HostModule
from rela_zoo.hosts.solo_learn import _resume
from rela_zoo.hosts.solo_learn._check import check_config
from rela_zoo.hosts.solo_learn._dali import DaliData, is_dali


class SoloLearn(Host):
    """solo-learn's `main_pretrain.py`: its own checks, data that may come from DALI, and resumption mended."""

    def begin(self) -> None:
        # Here and not in the plugin alone: a launcher's worker process gets the classes, not what the plugin did.
        make_resumer_compare_rela()

    def check(self, cfg: Any) -> list[Problem]:
        return check_config(cfg)

    def data(self, module: HostModule) -> TrainingData:
        return DaliData(module) if is_dali(module) else super().data(module)

    def seed_epoch(self, module: HostModule) -> None:
        # Masks (mae), permutations (wmse) and dropout (all4one) come from the global generator: without this a resumed
        # run would draw others than the run that it goes on with.
        key = int(module.cfg.get("seed", None) or 0), module.trainer.current_epoch, module.trainer.global_rank
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def has_loss(self, module: HostModule) -> bool:
        # Without labels the classifier's loss is a mean over no sample: no number, without gradient. So is
        # deepclusterv2's in the first epoch of its own, when no sample has a cluster yet.
        first = module.cfg.method == "deepclusterv2" and module.current_epoch == 0
        return not first and not module.cfg.data.get("no_labels", False)

    def mend_saved(self, module: HostModule, checkpoint: dict[str, Any]) -> None:
        _resume.mend_saved(checkpoint)

    def mend_loaded(self, module: HostModule, checkpoint: dict[str, Any]) -> None:
        _resume.mend_loaded(module, checkpoint)

    def rewarm_momentum(self, module: HostModule, accelerator: Accelerator) -> None:
        if accelerator.config.rewarm:
            total = int(module.trainer.estimated_stepping_batches)
            step, length = accelerator.own_schedule(module.trainer.global_step, total)
            cast(HasMomentum, module).momentum_updater.update_tau(cur_step=step, max_steps=length)

    def mend_started(self, module: HostModule) -> None:
        _resume.mend_started(module)


def make_resumer_compare_rela() -> None:
    """Let solo-learn's AutoResumer take no checkpoint of a run with another `rela` section.

    Without this a plain run would resume from a checkpoint of a run with `rela`, and the other way round.
    """
    if "solo" not in sys.modules:
        return
    from solo.utils.auto_resumer import AutoResumer

    # Key by key, but for the one that changes no number. Of a run without `rela` all of them are None.
    for key in RelaConfig.model_fields:
        if key != "cache" and f"rela.{key}" not in AutoResumer.SHOULD_MATCH:
            AutoResumer.SHOULD_MATCH.append(f"rela.{key}")
