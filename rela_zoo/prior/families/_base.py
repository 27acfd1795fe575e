"""What a family of prior architectures is: whoever builds the network of an entry."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from rela_zoo._io.plugins import Plugin
from rela_zoo.errors import Problem, RegistryError
from rela_zoo.registry import Preprocessing, PriorSpec


class Family(Plugin):
    """Builds networks from entries. A subclass in a file of its own is a family; it has no state.

    Another package adds one by an entry point of the group `rela_zoo.priors`, `name = "module:Class"`; entries with
    `family: name` are then built by it:

        class Wide(Family):
            name = "wide"

            def build(self, spec):
                return WideNet(depth=int(spec.architecture), **spec.model_args)

    Attributes:
        name: by which an entry asks for it, in the grammar of priors' names.
        builds: whether it builds networks at all.
        on_meta: whether networks can be built on PyTorch's `meta` device, where no weights are computed in vain.
    """

    builds: ClassVar[bool] = True
    on_meta: ClassVar[bool] = True

    @classmethod
    def flaw(cls) -> str | None:
        return f"{cls.__name__}, which does not define `build`" if cls.build is Family.build else None

    def build(self, spec: PriorSpec) -> nn.Module:
        """The network of an entry, freshly initialised on PyTorch's default device, (B, 3, S, S) → (B, D).

        Raises:
            RegistryError: the entry names nothing that can be built.
        """
        raise NotImplementedError

    def check(self, spec: PriorSpec) -> list[Problem]:
        """Fields of an entry that can't be right in this family, by key."""
        return []

    def heads(self, spec: PriorSpec, network: nn.Module) -> tuple[str, ...]:
        """Names of modules that a weight file may hold and the network does not: classifiers."""
        return ()

    def to_own_names(self, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a weight file under the names that the network has for them."""
        return state

    def preprocessing(self, spec: PriorSpec, network: nn.Module) -> Preprocessing:
        """How images are prepared, for an untrained network whose entry does not say it.

        Raises:
            RegistryError: the architecture does not say it either.
        """
        raise RegistryError(
            f"nothing says how images are prepared for {spec.id!r}", expected="`preprocessing` in its entry", got="none"
        )
