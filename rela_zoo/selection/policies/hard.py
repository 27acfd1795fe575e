"""Only samples far from the centroid of their cluster."""

from __future__ import annotations

from rela_zoo.selection.policies.prototypical import Prototypical


class Hard(Prototypical):
    """Only samples far from the centroid of their cluster.

    Source: Sorscher et al., arXiv 2206.14486, section 5.
    """

    name = "hard"
    farthest = True
