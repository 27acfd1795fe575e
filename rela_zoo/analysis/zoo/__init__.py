"""The zoo as a whole: built cell by cell, measured, and shown on a page.

`plan_zoo` looks up what is needed, `build_zoo` makes it with what the package has (`embed`, `fit_transport`,
`fit_both_ways`, `evaluate`, `similarity`), `estimate` says what it will cost.
"""

from __future__ import annotations

from rela_zoo.analysis.zoo._build import SMALL_BYTES, Zoo, as_json, build_zoo, plan_zoo
from rela_zoo.analysis.zoo._cells import Cell, Places, ZooPrior
from rela_zoo.analysis.zoo._data import About, ZooData, describe, open_data, opened
from rela_zoo.analysis.zoo._estimate import CellEstimate, estimate
from rela_zoo.analysis.zoo._page import PAGE_FILE, write_zoo_page, zoo_page
from rela_zoo.analysis.zoo._publish import Published, check_zoo_signers, publish_zoo, write_cards

__all__ = [
    "PAGE_FILE",
    "SMALL_BYTES",
    "About",
    "Cell",
    "CellEstimate",
    "Places",
    "Published",
    "Zoo",
    "ZooData",
    "ZooPrior",
    "as_json",
    "build_zoo",
    "check_zoo_signers",
    "describe",
    "estimate",
    "open_data",
    "opened",
    "plan_zoo",
    "publish_zoo",
    "write_cards",
    "write_zoo_page",
    "zoo_page",
]
