"""The accelerated stage, whatever the host: no trainer, no configuration tree. `Accelerator` is the whole of it."""

from rela_zoo.engine._plan import PriorPlan, RelaPlan, plan_rela
from rela_zoo.engine._preflight import preflight
from rela_zoo.engine._published import fetch_for_run
from rela_zoo.engine._selection import run_subset
from rela_zoo.engine._shape import RunShape
from rela_zoo.engine._stage import Step
from rela_zoo.engine._views import ViewShape
from rela_zoo.engine._weights import scale_gradients
from rela_zoo.engine.accelerator import Accelerator
from rela_zoo.engine.finite import LossWatch
from rela_zoo.engine.handover import AdaptiveHandover, ConstantHandover, PlateauHandover
from rela_zoo.engine.sampler import StagedDataset, SubsetSampler
from rela_zoo.engine.surpass import SurpassHandover
from rela_zoo.engine.targets import Student, Targets, left_out_of, resolve_targets

__all__ = [
    "Accelerator",
    "AdaptiveHandover",
    "ConstantHandover",
    "LossWatch",
    "PlateauHandover",
    "PriorPlan",
    "RelaPlan",
    "RunShape",
    "StagedDataset",
    "Step",
    "Student",
    "SubsetSampler",
    "SurpassHandover",
    "Targets",
    "ViewShape",
    "fetch_for_run",
    "left_out_of",
    "plan_rela",
    "preflight",
    "resolve_targets",
    "run_subset",
    "scale_gradients",
]
