"""What every benchmark leaves: its numbers, with versions, hardware and the machine's load beside them, as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rela_zoo._io.environment import environment


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
