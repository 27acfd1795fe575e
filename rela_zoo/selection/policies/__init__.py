"""Selection policies, a file each, found by name; other packages add theirs by entry points `rela_zoo.policies`."""

from rela_zoo._io.plugins import Plugins
from rela_zoo.selection._scores import EpochScores, Scores, always, equal_shares, nearest
from rela_zoo.selection.policies._base import Context, Policy, PolicyOptions, Space

POLICIES = Plugins("selection policy", Policy, __name__, "rela_zoo.policies")

__all__ = [
    "POLICIES",
    "Context",
    "EpochScores",
    "Policy",
    "PolicyOptions",
    "Scores",
    "Space",
    "always",
    "equal_shares",
    "nearest",
]
