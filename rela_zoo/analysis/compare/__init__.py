"""Several priors on the same samples: every pair measured, each space described, and pages and figures of it.

`measure` is the maths and reads tables; `draw` and `page` show what it found.
"""

from __future__ import annotations

from rela_zoo.analysis.compare._figure import draw
from rela_zoo.analysis.compare._measure import PAIR_MEASURES, Comparison, Space, measure
from rela_zoo.analysis.compare._render import page

__all__ = ["PAIR_MEASURES", "Comparison", "Space", "draw", "measure", "page"]
