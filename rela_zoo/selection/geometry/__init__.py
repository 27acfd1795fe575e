"""Where the samples of a data set lie in the prior's space: clusters, centres, near-duplicates."""

from rela_zoo.selection.geometry._assign import assign, nearest_labels
from rela_zoo.selection.geometry._centres import k_centres
from rela_zoo.selection.geometry._clusters import default_clusters, k_means
from rela_zoo.selection.geometry._duplicates import near_duplicates
from rela_zoo.selection.geometry._geometry import (
    Geometry,
    KeyParts,
    Kind,
    geometry,
    positions_digest,
    transport_digest,
)
from rela_zoo.selection.geometry._principal import principal_points

__all__ = [
    "Geometry",
    "KeyParts",
    "Kind",
    "assign",
    "default_clusters",
    "geometry",
    "k_centres",
    "k_means",
    "near_duplicates",
    "nearest_labels",
    "positions_digest",
    "principal_points",
    "transport_digest",
]
