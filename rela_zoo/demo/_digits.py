"""scikit-learn's handwritten digits as an image folder: 1,797 real images of 8×8, enlarged to 32×32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rela_zoo._io.files import atomic_path

VAL_IMAGES = 360
SIDE = 32


def write_digits(root: str | Path) -> tuple[Path, Path]:
    """Write `root/train/<digit>/*.png` (1,437 images) and `root/val/<digit>/*.png` (360), unless they are there.

    The split is a fixed permutation. No file is ever half written, so that a folder left by an interrupted run is
    completed.

    Returns:
        The two folders.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(digits.target))
    folders = Path(root) / "val", Path(root) / "train"
    for position, index in enumerate(order):
        folder = folders[position >= VAL_IMAGES] / str(digits.target[index])
        path = folder / f"{index:04d}.png"
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        grey = np.rint(digits.images[index] * (255 / 16)).astype(np.uint8)
        enlarged = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        with atomic_path(path, suffix=".partial") as temporary:
            enlarged.save(temporary, format="png")
    return folders[1], folders[0]
