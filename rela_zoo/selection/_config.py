"""The `selection` key of a configuration: a policy's name, or a mapping with its name and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rela_zoo._io.validation import placed
from rela_zoo.errors import Problem
from rela_zoo.selection.policies import Policy
from rela_zoo.selection.policies._read import read_policy
from rela_zoo.selection.policies.uniform import Uniform


@dataclass(frozen=True)
class SelectionConfig:
    """A checked policy with all of its options.

    Attributes:
        policy: with its options, as `read_policy` checked them.
    """

    policy: Policy

    @property
    def name(self) -> str:
        """Of the policy."""
        return self.policy.name

    @property
    def options(self) -> Mapping[str, Any]:
        """The policy's own, by name, defaults filled in."""
        return {key: value for key, value in self.policy.options if key != "record"}

    @property
    def record(self) -> str | None:
        """Folder to which the samples of each epoch are written, or None."""
        return self.policy.options.record

    @property
    def needs_embeddings(self) -> bool:
        """Whether the policy looks at the prior's embeddings."""
        return any(part.needs_embeddings for part in self.policy.parts())

    @property
    def needs_ids(self) -> bool:
        """Whether samples must be known by id: to be replayed, or recorded."""
        return self.record is not None or any(part.needs_ids for part in self.policy.parts())

    @property
    def needs_losses(self) -> bool:
        """Whether the policy looks at the losses of the accelerated stage."""
        return any(part.needs_losses for part in self.policy.parts())

    @property
    def needs_epochs(self) -> bool:
        """Whether the number of epochs must be known."""
        return any(part.needs_epochs for part in self.policy.parts())

    @property
    def weighted(self) -> bool:
        """Whether losses are weighted by sample, in any phase."""
        return any(getattr(part.options, "weighted", False) for part in self.policy.parts())

    @property
    def banner(self) -> str:
        """What a run's banner says of the policy; "" for nothing."""
        return self.policy.banner()

    def preflight(self, ratio: float, key: str = "rela") -> list[Problem]:
        """What can be known to be wrong before data are touched: files that the options name.

        Args:
            ratio: `data_ratio`.
            key: the dotted key of the section that has both, for problems.
        """
        return placed(key, self.policy.preflight(ratio))

    def plain(self) -> dict[str, Any]:
        """Name and options as plain data: what decides which samples are drawn, for checkpoints and exports."""
        return self.policy.plain()

    def __str__(self) -> str:
        return str(self.policy)


UNIFORM = SelectionConfig(Uniform(Uniform.Options()))


def read_selection(section: Any, ratio: float) -> tuple[SelectionConfig, list[Problem]]:
    """`parse_selection`, with problems as pydantic's validators raise them: by keys relative to `section`."""
    policy, problems = read_policy(section)
    if policy is not None and not problems:
        problems = policy.check(ratio)
    return (UNIFORM if policy is None else SelectionConfig(policy)), problems


def parse_selection(section: Any, ratio: float, key: str = "rela.selection") -> tuple[SelectionConfig, list[Problem]]:
    """Check a `selection` key.

    Args:
        section: the name of a policy, or a mapping with `name` and its options.
        ratio: `data_ratio`, which some options must leave room for; in (0, 1].
        key: the dotted key, for problems.

    Returns:
        The policy (`uniform` where it can't be told) and every problem found.
    """
    selection, problems = read_selection(section, ratio)
    return selection, placed(key, problems)
