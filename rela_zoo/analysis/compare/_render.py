"""One self-contained HTML page of a comparison: no script, no other file, nothing fetched."""

from __future__ import annotations

import base64
from html import escape

from rela_zoo.analysis.compare._measure import PAIR_MEASURES, Comparison

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child { text-align: left } img { max-width: 100%; height: auto } p.note { color: #555 }
"""


def page(found: Comparison, figure: bytes, dataset: str) -> str:
    """The page.

    Args:
        found: the comparison.
        figure: its PNG, which is put inside the page.
        dataset: what the samples are, for the title.
    """
    title = f"{len(found.names)} priors on {escape(dataset)}"
    image = base64.b64encode(figure).decode("ascii")
    sections = "\n".join(_matrix(found, key) for key in PAIR_MEASURES)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head>
<body>
<h1>{title}</h1>
<p class="note">{found.samples:,} samples in common; similarities on {found.sampled:,} of them. Transports are fitted by
ridge regression, and judged on a tenth of the samples that had no part in the fit. In every matrix the row is the
source. Similarities in representation are no promise of accuracy: an untrained network belongs among the rows.
{escape(found.caution)}</p>
<img alt="Heat maps of linear CKA, shared neighbours and transports, and spectra" src="data:image/png;base64,{image}">
<h2>Spaces</h2>
{_spaces(found)}
{sections}
</body>
</html>
"""


def _spaces(found: Comparison) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{space.dim}</td><td>{space.effective_rank:.1f}</td>"
        f"<td>{space.participation_ratio:.1f}</td><td>{space.intrinsic_dimension:.1f}</td></tr>"
        for name, space in zip(found.names, found.spaces, strict=True)
    )
    head = "<tr><th>prior</th><th>dim</th><th>RankMe</th><th>participation ratio</th><th>TwoNN dimension</th></tr>"
    return f'<div class="wide"><table id="spaces">{head}{rows}</table></div>'


def _matrix(found: Comparison, key: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in found.names)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{_number(value)}</td>" for value in values) + "</tr>"
        for name, values in zip(found.names, found.pairs[key], strict=True)
    )
    title = escape(PAIR_MEASURES[key])
    return f'<h2>{title}</h2><div class="wide"><table id="{key}"><tr><th></th>{head}</tr>{rows}</table></div>'


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
