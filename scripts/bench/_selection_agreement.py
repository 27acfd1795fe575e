"""What few dimensions and one cluster cost a selection, beside all dimensions and the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _selection_data import DEVICE, DIM, DIMS, SEED, THRESHOLD, Inputs

from rela_zoo.selection.geometry import assign, k_centres, k_means, near_duplicates, nearest_labels

# Name, dimensions, seed, clusters in which a sample's near-duplicates are sought.
RUNS = [
    ("512", DIM, SEED, 2),
    ("512, another seed", DIM, SEED + 1, 2),
    ("128", DIMS, SEED, 2),
    ("128, duplicates in one cluster", DIMS, SEED, 1),
    ("64", 64, SEED, 2),
]


def same_pairs(one: np.ndarray, other: np.ndarray) -> float:
    """F1 of two groupings, over the pairs that each puts together."""

    def pairs(*groups: np.ndarray) -> int:
        counts = np.unique(np.stack(groups), axis=1, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    return 2 * pairs(one, other) / (pairs(one) + pairs(other))


def measure_agreement(folder: Path) -> dict[str, Any]:
    """The same functions on fewer dimensions, judged against all of them and against what was planted."""
    from sklearn.metrics import normalized_mutual_info_score as shared

    inputs = Inputs(folder)
    full = inputs.points(DIM)
    units = [torch.nn.functional.normalize(torch.from_numpy(full[side]), dim=1) for side in inputs.pairs]
    cosines = (units[0] * units[1]).sum(1).numpy()
    best: dict[str, Any] = {}
    result: dict[str, Any] = {}
    for name, dims, seed, each in RUNS:
        points = np.ascontiguousarray(full[:, :dims])
        clusters = k_means(points, inputs.cells, seed, device=DEVICE)
        near = nearest_labels(points, clusters.centroids, each, DEVICE)
        groups = near_duplicates(points, near, THRESHOLD, device=DEVICE)
        centres = k_centres(points, inputs.cells, seed, device=DEVICE).centres
        reach = assign(full, full[centres], DEVICE)[1]
        best = best or {"labels": clusters.labels, "groups": groups, "reach": reach}
        together = groups[inputs.pairs[0]] == groups[inputs.pairs[1]]
        result[name] = {
            "variance_kept": round(sum(inputs.transport.stats.explained_variance_ratio[:dims]), 3),
            "clusters_nmi_with_512": round(shared(best["labels"], clusters.labels), 3),
            "clusters_nmi_with_classes": round(shared(inputs.labels, clusters.labels), 3),
            "planted_pairs_found_from_cosine": {
                str(least): round(float(together[cosines >= least].mean()), 4) for least in (THRESHOLD, 0.97, 0.99)
            },
            "duplicate_pairs_f1_with_512": round(same_pairs(best["groups"], groups), 4),
            "groups": int(groups.max()) + 1,
            "centres_radius_in_512_relative": round(float(reach.max() / best["reach"].max()), 3),
            "centres_mean_distance_in_512_relative": round(float(reach.mean() / best["reach"].mean()), 3),
        }
        print(name, result[name], file=sys.stderr, flush=True)
    return {"planted_pairs_above_threshold": int((cosines >= THRESHOLD).sum()), "by_dims": result}
