"""Features of a module's student, and the embedding that it shows to probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rela_zoo.errors import RelaZooError


class Features:
    """How the features of images are made.

    Args:
        made_by: name of the backbone in the module, or a function of module and images (B, C, H, W).
    """

    def __init__(self, made_by: str | Callable[[Any, Tensor], Tensor]) -> None:
        self._made_by = made_by

    def __call__(self, module: Any, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → (B, m), with gradient.

        Raises:
            RelaZooError: the backbone gives something else.
        """
        if callable(self._made_by):
            return _flat(self._made_by(module, images))
        backbone = self._backbone(module)
        return _flat(getattr(backbone, "forward_student", backbone)(images))

    @contextmanager
    def noted(self, module: Any) -> Iterator[Callable[[Sequence[Tensor]], list[Tensor]]]:
        """Within it the module may compute features itself; the function given takes images, and gives their features.

        The images are those of each view. If they went through the backbone one view after another, or joined in this
        order, it gives what came out then; others go through it again.
        """
        seen: list[tuple[Tensor, Tensor]] = []
        handles = []
        if not callable(self._made_by):
            backbone = self._backbone(module)
            network = getattr(backbone, "student", backbone)
            handles.append(network.register_forward_hook(lambda _, given, made: _note(seen, given, made)))
        try:
            yield lambda images: _found(seen, images) or [self(module, one) for one in images]
        finally:
            for handle in handles:
                handle.remove()

    def embeddings(self, module: Any, images: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
        """What a module shows of each view: (B, m) without gradient; of a backbone with a teacher, the teacher's."""
        teacher = None if callable(self._made_by) else getattr(self._backbone(module), "forward_teacher", None)
        # Probes and queues register there; running the teacher for nobody would cost a third of the step.
        if teacher is None or not len(module.callbacks_modules):
            return [one.detach() for one in features]
        with torch.no_grad():
            return [_flat(teacher(one)) for one in images]

    def parameters(self, module: Any) -> Iterator[nn.Parameter]:
        """Of the backbone; none where features are made by a function."""
        return iter(()) if callable(self._made_by) else self._backbone(module).parameters()

    @torch.no_grad()
    def measure(self, module: Any, images: Tensor) -> int:
        """The width m of the features of these images (B, C, H, W); leaves the module as it is."""
        modes = [(part, part.training) for part in module.modules()]
        example = next(module.parameters())
        try:
            return int(self(module.eval(), images.to(example.device, example.dtype)).shape[1])
        finally:
            for part, training in modes:
                part.training = training

    def _backbone(self, module: Any) -> Any:
        try:
            return module.get_submodule(self._made_by)
        except AttributeError:
            children = ", ".join(name for name, _ in module.named_children())
            raise RelaZooError(
                f"the module has no part {self._made_by!r}",
                expected="the name of its backbone",
                got=f"parts {children}",
                fix="name it: accelerate(…, features=NAME), or give a function of module and images",
            ) from None


def _note(seen: list[tuple[Tensor, Tensor]], given: tuple[Any, ...], made: Any) -> None:
    """Remember features with the images that they are of, in a forward with gradient."""
    if len(given) == 1 and isinstance(given[0], Tensor) and torch.is_grad_enabled():
        seen.append((given[0], _flat(made)))


def _found(seen: Sequence[tuple[Tensor, Tensor]], images: Sequence[Tensor]) -> list[Tensor] | None:
    """The features of the images of each view, in what a backbone was given; None where they are not all there."""
    alone = [next((made for given, made in seen if given is one), None) for one in images]
    if all(made is not None for made in alone):
        return [made for made in alone if made is not None]
    joined = (sum(map(len, images)), *images[0].shape[1:])
    for given, made in seen:
        # Comparing waits for a GPU, which costs far less than the backbone.
        if given.shape == joined and all(map(torch.equal, given.split([len(one) for one in images]), images)):
            return list(made.split([len(one) for one in images]))
    return None


def _flat(output: Any) -> Tensor:
    """What a backbone gives → (B, m): of a transformer's tokens the first, as stable-pretraining's forwards take it."""
    tokens = getattr(output, "last_hidden_state", output)
    if isinstance(tokens, Tensor) and tokens.ndim == 3:
        tokens = tokens[:, 0]
    if isinstance(tokens, Tensor) and tokens.ndim == 2:
        return tokens
    got = (
        f"{type(output).__name__} of shape {tuple(tokens.shape)}"
        if isinstance(tokens, Tensor)
        else type(output).__name__
    )
    raise RelaZooError(
        "the backbone gives no features, one row an image",
        expected="a tensor (B, m), or tokens (B, tokens, m) with the class token first",
        got=got,
        fix="say how features are made: accelerate(…, features=lambda module, images: …)",
    )
