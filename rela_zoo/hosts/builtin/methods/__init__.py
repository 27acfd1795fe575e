"""The built-in methods, by the name that `method` gives in a configuration."""

from __future__ import annotations

from rela_zoo.hosts.builtin.base import BaseMethod
from rela_zoo.hosts.builtin.methods.barlow_twins import BarlowTwins
from rela_zoo.hosts.builtin.methods.byol import BYOL
from rela_zoo.hosts.builtin.methods.dino import DINO
from rela_zoo.hosts.builtin.methods.mocov2plus import MoCoV2Plus
from rela_zoo.hosts.builtin.methods.mocov3 import MoCoV3
from rela_zoo.hosts.builtin.methods.simclr import SimCLR
from rela_zoo.hosts.builtin.methods.simsiam import SimSiam
from rela_zoo.hosts.builtin.methods.supervised import Supervised
from rela_zoo.hosts.builtin.methods.swav import SwAV
from rela_zoo.hosts.builtin.methods.vicreg import VICReg

METHODS: dict[str, type[BaseMethod]] = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "dino": DINO,
    "mocov2plus": MoCoV2Plus,
    "mocov3": MoCoV3,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "supervised": Supervised,
    "swav": SwAV,
    "vicreg": VICReg,
}
