"""stable-pretraining: `accelerate(module, rela={…})` puts the accelerated stage in front of any of its forwards."""

from rela_zoo.hosts.stable_pretraining.accelerate import accelerate

__all__ = ["accelerate"]
