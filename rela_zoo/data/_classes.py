"""One numbering of the classes of two sources: by their names, for each source numbers them in its own order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rela_zoo.errors import EmbeddingsError


def class_numbers(known: Sequence[str], classes: Sequence[str], labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """What the classes of a second source are called among those of the first.

    Args:
        known: names of the first one's classes; where it has none their numbers, as text.
        classes: of the second one's.
        labels: of the second one's images, −1 for one without.

    Returns:
        (len(classes) + 1,) int64: the position in `known` of each class, −1 for one that is not there and has no
        image; and −1 at the end, so that it may be indexed by labels.

    Raises:
        EmbeddingsError: images are of a class that the first one has not.

    Examples:
        >>> class_numbers(["cat", "dog"], ["dog", "cat"], [0, 0, -1, 1]).tolist()
        [1, 0, -1]
    """
    if list(known) == list(classes):
        return np.array([*range(len(classes)), -1])
    numbers = {name: number for number, name in enumerate(known)}
    found = np.unique(np.asarray(labels, np.int64))
    strange = sorted({classes[label] for label in found[found >= 0]} - numbers.keys())
    if strange:
        raise EmbeddingsError(
            "the held-out images have classes that those to learn from have not",
            expected=", ".join(list(numbers)[:8]) + ", …" * (len(numbers) > 8),
            got=", ".join(strange[:5]) + ", …" * (len(strange) > 5),
            fix="name data with the same classes",
        )
    return np.array([*(numbers.get(name, -1) for name in classes), -1])
