"""Any LightningModule: a callback, and one line in its `training_step`. The other Lightning hosts stand on this one.

Works with Lightning 2.1 and newer. Everything that is not Lightning's public interface is in `_trainer`.
"""

from rela_zoo.hosts.lightning._device_views import DeviceViews, Placement
from rela_zoo.hosts.lightning._finite import FiniteLosses, loss_of
from rela_zoo.hosts.lightning._trainer import next_epoch
from rela_zoo.hosts.lightning.callback import RelaCallback, accelerating, mixing
from rela_zoo.hosts.lightning.data import LoaderData, TrainingData
from rela_zoo.hosts.lightning.run import LightningRun, ModuleFacts

__all__ = [
    "DeviceViews",
    "FiniteLosses",
    "LightningRun",
    "LoaderData",
    "ModuleFacts",
    "Placement",
    "RelaCallback",
    "TrainingData",
    "accelerating",
    "loss_of",
    "mixing",
    "next_epoch",
]
