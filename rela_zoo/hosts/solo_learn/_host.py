"""What solo-learn's programs are peculiar in."""

from __future__ import annotations

from typing import Any

from rela_zoo.errors import Problem
from rela_zoo.hosts.contract import Host
from rela_zoo.hosts.lightning import TrainingData
from rela_zoo.hosts.solo_learn._check import check_config
from rela_zoo.hosts.solo_learn._dali import DaliData, is_dali


class SoloLearn(Host):
    """solo-learn's `main_pretrain.py`: its own checks, and data that may come from DALI."""

    def check(self, cfg: Any) -> list[Problem]:
        return check_config(cfg)

    def data(self, module: Any) -> TrainingData:
        return DaliData(module) if is_dali(module) else super().data(module)
