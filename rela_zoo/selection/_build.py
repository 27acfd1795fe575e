"""From a checked policy to the subsets it draws."""

from __future__ import annotations

from collections.abc import Sequence

from rela_zoo.errors import SelectionError
from rela_zoo.selection._config import SelectionConfig
from rela_zoo.selection.policies import Context, Space
from rela_zoo.selection.subset import Subset


def build_subset(
    config: SelectionConfig,
    *,
    n: int,
    ratio: float,
    seed: int,
    epochs: int | None = None,
    space: Space | None = None,
    ids: Sequence[str] | None = None,
) -> Subset:
    """The subsets that a policy draws from a data set.

    Args:
        config: the checked policy.
        n: samples in the data set, ≥ 1.
        ratio: fraction of them in an epoch, on average, in (0, 1].
        seed: of the draws.
        epochs: of the training; needed by `curriculum`, checked by `replay`.
        space: of the prior; needed by the policies that look at its embeddings.
        ids: of the samples; needed by `replay`, and to record.

    Returns:
        The subsets; not yet recorded, whatever `config.record` says.

    Raises:
        ValueError: if `ratio` is outside (0, 1], or the subset would be empty.
        SelectionError: if what the policy needs is not given, is of another data set, or it cannot fill an epoch.
    """
    policy = config.policy
    for needed, given, what in (
        (config.needs_epochs, epochs, "the number of epochs"),
        (config.needs_embeddings, space, "the prior's embeddings"),
        (any(part.needs_ids for part in policy.parts()), ids, "sample ids"),
    ):
        if needed and given is None:
            raise SelectionError(
                f"selection {config.name} needs {what}", expected=what, got="none", fix="choose selection uniform"
            )
    held = getattr(space, "n", n)
    if held != n:
        raise SelectionError(
            "the prior's space is that of another data set", expected=f"{n} samples", got=f"{held}",
            fix="give the embeddings of the data set that is drawn from",
        )  # fmt: skip
    # Of several phases that look at losses the first one's average serves all.
    losses = next((part.running_losses(n) for part in policy.parts() if part.needs_losses), None)
    return policy.subset(Context(n, ratio, seed, epochs, space=space, ids=ids, losses=losses))
