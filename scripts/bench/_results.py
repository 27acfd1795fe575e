"""What every benchmark leaves: its numbers, with versions, hardware and the machine's load beside them, as JSON."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rela_zoo._io.environment import environment


def relative(mine: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """One thing's times against another's of the same rounds: the spread says how much of a ratio is noise.

    Returns:
        The median ratio as `relative`, and `relative_min` and `relative_max`.
    """
    ratios = [one / other for one, other in zip(mine, others, strict=True)]
    found = {"relative": statistics.median(ratios), "relative_min": min(ratios), "relative_max": max(ratios)}
    return {name: round(value, 3) for name, value in found.items()}


def write_results(result: dict[str, Any], out: Path | None, **more: Any) -> str:
    """Put the circumstances in, and write a file if one is asked for.

    Args:
        result: of the benchmark; gets the key `environment`.
        out: JSON file; None writes none.
        more: facts for `environment` that only this benchmark knows.

    Returns:
        The JSON text.
    """
    result["environment"] = {
        **environment(), "load_average_at_end": [round(one, 1) for one in os.getloadavg()], **more,
    }  # fmt: skip
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    return text
