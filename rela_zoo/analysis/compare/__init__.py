"""Several priors on the same samples: every pair measured, each space described, and a page and a figure of it."""

from __future__ import annotations

from rela_zoo.analysis.compare._measure import PAIR_MEASURES, Comparison, SpaceSummary, compare
from rela_zoo.analysis.compare._render import render_figure, render_page

__all__ = ["PAIR_MEASURES", "Comparison", "SpaceSummary", "compare", "render_figure", "render_page"]
