"""Networks that nobody here builds."""

from __future__ import annotations

from torch import nn

from rela_zoo.errors import RegistryError
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec


class External(Family):
    """The entry tells what to do; its embeddings may be used without the network."""

    name = "external"
    builds = False

    def build(self, spec: PriorSpec) -> nn.Module:
        raise RegistryError(
            f"prior {spec.id!r} can't be built by this package",
            expected="an entry of another family",
            got="family 'external'",
            fix=" ".join(spec.notes) or None,
        )
