"""What the page says of one prior when it is opened: how to use it, what was measured, where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rela_zoo._io.text import format_bytes
from rela_zoo.registry import PriorSpec, Seen, ZooResults

_MARKS = {
    "labels": ("†", "the prior has seen this data with its labels"),
    "images": ("‡", "the prior has seen images of this data"),
}


def percent(value: float) -> str:
    """A share for a table: `87.0`."""
    return f"{100 * value:.1f}"


def seen_mark(seen: Seen) -> str:
    """The mark of a number of a prior that knows the data; nothing of another."""
    if seen not in _MARKS:
        return ""
    sign, words = _MARKS[seen]
    return f'<abbr class="mark" title="{words}">{sign}</abbr>'


def details(spec: PriorSpec, results: Sequence[ZooResults]) -> str:
    """HTML of the row that opens below a prior."""
    parts = [*_use(spec), *(one for found in results for one in _measured(spec, found)), "<h3>Facts</h3>", _facts(spec)]
    if spec.notes:
        parts += ["<h3>What to know</h3>", f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in spec.notes)}</ul>"]
    return "".join(parts)


def _use(spec: PriorSpec) -> Iterable[str]:
    yield "<h3>How to use it</h3>"
    if spec.family == "external":
        yield "<p>This package can’t build the network; see below for what to do.</p>"
        return
    if spec.package is not None:
        yield _code(spec.package.pip_command())
    yield _code(
        "import rela_zoo\n"
        f'prior = rela_zoo.load_prior("{spec.id}")\n'
        'table = rela_zoo.embed(prior, "DIR", "embeddings/")'
    )
    yield _code(f"rela-zoo pretrain --config-name byol rela.prior={spec.id} rela.data_ratio=0.2 data.train_path=DIR")


def _code(text: str) -> str:
    return f'<div class="code"><pre>{escape(text)}</pre><button type="button">copy</button></div>'


def _measured(spec: PriorSpec, found: ZooResults) -> Iterable[str]:
    one = found.priors.get(spec.id)
    if one is None:
        return
    settings = found.settings
    few = f"{settings.per_class} labels a class, mean of {settings.draws} draws"
    accuracies = (("linear probe", one.probe), (few, one.few_label), (f"{settings.neighbours}-NN", one.knn))
    rows = [(name, f"{percent(value)} %{seen_mark(one.seen)}") for name, value in accuracies if value is not None]
    spaces = (("RankMe", one.rank_me), ("participation ratio", one.participation_ratio),
              ("TwoNN dimension", one.intrinsic_dimension))  # fmt: skip
    rows += [(name, f"{value:.1f} of {one.dim}") for name, value in spaces if value is not None]
    shares = ", ".join(f"{count}: {percent(share)} %" for count, share in one.spectrum.items())
    rows.append(("variance in the leading directions", shares))
    if one.transport is not None:
        kept = one.transport
        size = f"{kept.components} of {one.dim} components, {format_bytes(kept.bytes)}"
        rows.append(("target transport", f"{escape(kept.file)}: {size}"))
    away = sorted((pair for pair in found.pairs if pair.source == spec.id), key=lambda pair: -pair.r2)
    if away:
        listed = ", ".join(f"{escape(pair.target)} {pair.r2:.2f}" for pair in away)
        rows.append(("R² of the transports to others", listed))
    yield f"<h3>Measured on {escape(found.data.title)}</h3>"
    yield _list(rows)


def _facts(spec: PriorSpec) -> str:
    p = spec.preprocessing
    rows = [
        ("architecture", escape(f"{spec.architecture} ({spec.family})")),
        ("features", f"{spec.dim or 'known once built'}, layer {spec.layer}"),
        ("preprocessing", escape(
            f"shorter side to {p.resize} ({p.interpolation}), centre crop {p.input_size}, mean {_numbers(p.mean)}, "
            f"deviation {_numbers(p.std)}"
        ) if p else ""),
        ("trained on", escape(spec.training_data)),
        ("source", escape(spec.source + (f", {spec.repo}" if spec.repo else ""))),
        ("commit", escape(spec.revision or "")),
        ("sha256", escape(f"{spec.sha256} ({spec.pin})") if spec.sha256 else ""),
        ("other names", escape(", ".join(spec.aliases))),
        ("citation", escape(spec.citation)),
        ("papers", ", ".join(
            f'<a href="https://arxiv.org/abs/{escape(one)}" rel="noreferrer">arXiv {escape(one)}</a>'
            for one in spec.arxiv
        )),
    ]  # fmt: skip
    return _list([(key, value) for key, value in rows if value])


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{value}</dd>" for key, value in rows) + "</dl>"
