"""The page of the zoo: one HTML file with every prior of the registry, and what was measured of some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from rela_zoo._io.files import atomic_write
from rela_zoo._version import __version__
from rela_zoo.analysis.report import document
from rela_zoo.analysis.zoo._heat import heat_maps
from rela_zoo.analysis.zoo._prior_details import details, percent, seen_mark
from rela_zoo.prior import readiness
from rela_zoo.registry import PriorMeasures, PriorSpec, ZooResults

PAGE_FILE = "index.html"

# Nothing is loaded from anywhere, whatever the page may come to hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_HEAD = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>'


class _Column:
    """A column of the table.

    Args:
        label: its head.
        text: a prior's cell, as HTML.
        key: what the cell is sorted by; nothing for what is not known.
        number: whether that is a number.
        hint: what the head means.
    """

    def __init__(
        self, label: str, text: Callable[[PriorSpec], str], key: Callable[[PriorSpec], object], *,
        number: bool = False, hint: str = "",
    ) -> None:  # fmt: skip
        self.label, self.text, self.key, self.number, self.hint = label, text, key, number, hint

    def head(self) -> str:
        kind = ' class="number"' if self.number else ""
        hint = f' title="{escape(self.hint)}"' if self.hint else ""
        return f'<th scope="col" aria-sort="none"{kind}><button type="button"{hint}>{escape(self.label)}</button></th>'

    def cell(self, spec: PriorSpec) -> str:
        key = self.key(spec)
        sort = "" if key is None or key == "" else str(key)
        kinds = [*(["number"] if self.number else []), *(["empty"] if not sort else [])]
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        text = self.text(spec)
        return f'<td{kind} data-label="{escape(self.label)}" data-sort="{escape(sort)}"><span>{text}</span></td>'


def zoo_page(
    specs: Sequence[PriorSpec], results: Sequence[ZooResults] = (), ready: Mapping[str, str] | None = None
) -> str:
    """The page as HTML, with no reference to anything that would be loaded.

    Args:
        specs: the priors, in the order in which they are listed at first.
        results: what was measured, by data set.
        ready: id → whether it loads on this machine; looked up by default.
    """
    state = {spec.id: readiness(spec) for spec in specs} if ready is None else ready
    columns = _columns(results, state)
    measured = {name for found in results for name in found.priors}
    known = sum(spec.id in measured for spec in specs)
    heads = '<th scope="col" aria-sort="none"><button type="button">prior</button></th>'
    heads += "".join(column.head() for column in columns)
    rows = "\n".join(_prior(spec, columns, results, state, spec.id in measured) for spec in specs)
    body = [
        "<header><h1>The zoo of priors</h1>",
        "<p>A <em>prior</em> is a frozen network whose embeddings, moved by a linear transport, are what another "
        "network learns from (ReLA). Every prior of the registry is here, with licence, pin and preprocessing; "
        f"{known} of {len(specs)} were measured.</p>",
        f'<p class="dim">Made by rela-zoo {escape(__version__)}. <em>Ready</em> is said of the machine that made this '
        "page.</p></header>",
        "<main>",
        _controls(specs, columns),
        f'<p class="count" role="status" aria-live="polite">{len(specs)} priors</p>',
        f'<table class="priors"><thead><tr>{heads}</tr></thead>\n{rows}\n</table>',
        _legend(results),
        *heat_maps(results),
        "</main>",
        "<noscript><style>.controls, .code button { display: none !important; }</style></noscript>",
    ]
    return document("The zoo of priors", "\n".join(body), _resource("page.css"), _resource("page.js"), _HEAD)


def write_zoo_page(folder: Path, specs: Sequence[PriorSpec], results: Sequence[ZooResults] = ()) -> Path:
    """Write the page as `index.html` of a folder; returns where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE_FILE
    atomic_write(path, zoo_page(specs, results).encode())
    return path


def _resource(name: str) -> str:
    return (files("rela_zoo.analysis.zoo") / name).read_text(encoding="utf-8")


def _columns(results: Sequence[ZooResults], state: Mapping[str, str]) -> list[_Column]:
    def pin(spec: PriorSpec) -> str:
        return spec.pin if spec.has_weights else ""

    def ready(spec: PriorSpec) -> str:
        kind = "yes" if state[spec.id] == "yes" else "none"
        return f'<span class="{kind}">{escape(state[spec.id])}</span>'

    columns = [
        _Column("ready", ready, lambda spec: state[spec.id]),
        _Column("dim", lambda spec: str(spec.dim or "?"), lambda spec: spec.dim, number=True, hint="features an image"),
        _Column("input", _input, _input, number=True, hint="side of the images that it is fed, pixels"),
        _Column("licence", _licence, lambda spec: spec.licence, hint="of the weights"),
        _Column(
            "pin", lambda spec: pin(spec) or "–", pin,
            hint="who vouches for the hash of the weights: confirmed, a third party's record, or nobody",
        ),
        _Column("trained on", lambda spec: escape(spec.training_data), lambda spec: spec.training_data.lower()),
    ]  # fmt: skip
    for found in results:
        data = found.data
        if any(one.knn is not None for one in found.priors.values()):
            k = found.settings.neighbours
            columns.append(_measure(found, f"{data.name}: {k}-NN, %", "knn", f"{k}-NN accuracy, {data.title}"))
            columns.append(_measure(found, f"{data.name}: probe, %", "probe", f"linear probe, {data.title}"))
        else:
            columns.append(_measure(found, f"{data.name}: RankMe", "rank_me", f"effective rank, {data.title}"))
    return columns


def _measure(found: ZooResults, label: str, key: str, hint: str) -> _Column:
    def value(spec: PriorSpec) -> float | None:
        one: PriorMeasures | None = found.priors.get(spec.id)
        return None if one is None else getattr(one, key)

    def text(spec: PriorSpec) -> str:
        number = value(spec)
        if number is None:
            return '<span class="none">–</span>'
        said = f"{number:.1f}" if key == "rank_me" else percent(number)
        return said + seen_mark(found.priors[spec.id].seen)

    return _Column(label, text, value, number=True, hint=hint)


def _input(spec: PriorSpec) -> str:
    return str(spec.preprocessing.input_size) if spec.preprocessing else ""


def _licence(spec: PriorSpec) -> str:
    name = escape(spec.licence)
    return f'<a href="{escape(spec.licence_link)}" rel="noreferrer">{name}</a>' if spec.licence_link else name


def _prior(
    spec: PriorSpec, columns: Sequence[_Column], results: Sequence[ZooResults], state: Mapping[str, str], known: bool
) -> str:
    words = (spec.id, *spec.aliases, spec.title, spec.architecture, spec.training_data, spec.licence, spec.repo or "")
    facts = {
        "text": " ".join(words).lower(),
        "licence": spec.licence,
        "ready": "yes" if state[spec.id] == "yes" else "no",
        "measured": "yes" if known else "no",
    }
    data = " ".join(f'data-{key}="{escape(value)}"' for key, value in facts.items())
    name = escape(spec.id)
    toggle = f'<button type="button" class="toggle" aria-expanded="true" aria-controls="more-{name}">{name}</button>'
    head = f'<th scope="row" data-sort="{name}">{toggle}<span class="title">{escape(spec.title)}</span></th>'
    cells = "".join(column.cell(spec) for column in columns)
    more = f'<tr class="more" id="more-{name}"><td colspan="{len(columns) + 1}">{details(spec, results)}</td></tr>'
    return f'<tbody id="{name}" {data}>\n<tr class="main">{head}{cells}</tr>\n{more}\n</tbody>'


def _controls(specs: Sequence[PriorSpec], columns: Sequence[_Column]) -> str:
    licences = sorted({spec.licence for spec in specs})
    options = "".join(f'<option value="{escape(one)}">{escape(one)}</option>' for one in licences)
    labels = ["prior", *(column.label for column in columns)]
    orders = "".join(f'<option value="{number}">{escape(one)}</option>' for number, one in enumerate(labels))
    return (
        '<form class="controls" role="search" hidden="hidden" onsubmit="return false">'
        '<label>search (press /)<input type="search" id="search" autocomplete="off" '
        'placeholder="clip, resnet, cifar, mit …"/></label>'
        f'<label>licence<select data-filter="licence"><option value="">any</option>{options}</select></label>'
        f'<label class="narrow">sort by<select id="sort">{orders}</select></label>'
        '<label class="check"><input type="checkbox" data-filter="ready" value="yes"/>ready here</label>'
        '<label class="check"><input type="checkbox" data-filter="measured" value="yes"/>measured</label></form>'
    )


def _legend(results: Sequence[ZooResults]) -> str:
    if not results:
        return ""
    sets = "; ".join(f"<b>{escape(one.data.name)}</b>: {escape(one.data.title)}" for one in results)
    return (
        f'<p class="dim">Accuracies of the priors’ own embeddings on held-out images, of frozen networks. {sets}. '
        "† the prior has seen this data with its labels, ‡ images of it without labels: such a number says little "
        "about other data. A prior’s own accuracy does not decide how well a student trains with it.</p>"
    )
