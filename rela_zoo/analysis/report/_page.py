"""The page itself: what `run.json`, `config.yaml` and `rela.lock` of a run's folder say, in HTML."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rela_zoo._io.files import atomic_write
from rela_zoo.analysis.report._document import document
from rela_zoo.analysis.report._svg import bars, curve
from rela_zoo.errors import RelaZooError
from rela_zoo.hub import Artefact, read_lock

RUN_FILE, PAGE_FILE = "run.json", "run.html"
_FORMAT = 1
_MAX_BYTES = 256 << 20
# Columns of the history that are no curves of their own.
_COUNTS = ("epoch", "step", "samples_seen", "seconds")

_STYLE = """
:root { --stage: #fff0c9; } @media (prefers-color-scheme: dark) { :root { --stage: #4a3d14; } }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--dim); }
svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke: var(--mark); stroke-width: 1.8; }
svg circle, svg .bar { fill: var(--mark); } svg .stage { fill: var(--stage); }
.key { display: inline-block; width: 1em; height: 1em; background: var(--stage); vertical-align: -.15em;
  border: 1px solid var(--line); }
"""


def run_page(folder: Path) -> str:
    """The page of a run, as HTML without a reference to anything outside it.

    Args:
        folder: of a run of the built-in host, finished or under way.

    Raises:
        RelaZooError: the folder holds no run, or its `run.json` is damaged.
    """
    run = _read(folder)
    rows = run["history"]
    title = f"{run['name']} · {run['method']}"
    lock = folder / "rela.lock"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{escape(_summary(run))}</p>',
        "<h2>Curves</h2>",
        *_curves(run, rows),
        "<h2>How often each sample was trained on</h2>",
        *_exposure(run),
        "<h2>Artefacts</h2>",
        *_artefacts(read_lock(lock) if lock.is_file() else None),
        "<h2>To repeat it</h2>",
        *_repetition(run, folder),
        "<h2>Configuration</h2>",
        f"<details><summary>config.yaml</summary><pre>{escape(_text(folder / 'config.yaml'))}</pre></details>",
        "<h2>Versions and hardware</h2>",
        _table(_environment(run["environment"])),
    ]
    return document(title, "\n".join(parts), _STYLE)


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a run; returns where it is, by default `run.html` in the run's folder.

    Raises:
        RelaZooError: as `run_page`.
    """
    path = folder / PAGE_FILE if output is None else output
    content = run_page(folder).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)
    return path


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    if not path.is_file():
        raise RelaZooError(
            f"there is no run in {folder}", expected=f"a folder with {RUN_FILE}, as `rela-zoo pretrain` writes it",
            got="none", fix="name the folder of the run: checkpoint.dir/METHOD/NAME-…",
        )  # fmt: skip
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        run = json.loads(path.read_bytes())
        if run["format"] != _FORMAT:
            raise ValueError(f"format {run['format']}")
        for key in ("name", "method", "history", "environment", "epochs", "max_epochs", "steps"):
            run[key]
        return dict(run)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RelaZooError(
            f"{path} is damaged", expected=f"the record of a run, format {_FORMAT}", got=f"{error!r}",
            fix="train an epoch more, which writes it anew",
        ) from error  # fmt: skip


def _summary(run: Mapping[str, Any]) -> str:
    last = run["history"][-1] if run["history"] else {}
    words = [f"{run['epochs']} of {run['max_epochs']} epochs", f"{run['steps']:,} steps"]
    if "samples_seen" in last:
        words += [f"{int(last['samples_seen']):,} samples", f"{last['seconds']:,.0f} s"]
    if run.get("accelerates"):
        step = run.get("handover_step")
        words.append("accelerated throughout" if step is None else f"handover at step {step:,}")
    return " · ".join(words)


def _curves(run: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> Iterable[str]:
    names = list(dict.fromkeys(key for row in rows for key in row if key not in _COUNTS))
    if not names:
        yield "<p>No epoch has been finished yet.</p>"
        return
    until = _accelerated_samples(run, rows)
    if until:
        yield f'<p><span class="key"></span> accelerated stage; white: {escape(run["method"])}</p>'
    yield '<div class="charts">'
    # Losses first, then what is measured on held-out images.
    for name in sorted(names, key=lambda key: ("loss" not in key, key.startswith("val_"), key)):
        points = [(float(row["samples_seen"]), float(row[name])) for row in rows if name in row]
        drawn = curve(name, points, "samples seen", until=until, end=float(rows[-1]["samples_seen"]))
        yield f"<figure><figcaption>{escape(name)}</figcaption>{drawn}</figure>"
    yield "</div>"


def _accelerated_samples(run: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> float | None:
    """Samples seen at the handover; all of them while it is to come; None without an accelerated stage."""
    if not run.get("accelerates"):
        return None
    last, step = rows[-1], run.get("handover_step")
    return float(last["samples_seen"]) * (1.0 if step is None else min(1.0, step / max(1.0, last["step"])))


def _exposure(run: Mapping[str, Any]) -> Iterable[str]:
    seen = {int(times): int(count) for times, count in (run.get("seen") or {}).items()}
    if not seen:
        yield "<p>Not recorded.</p>"
        return
    total = sum(seen.values())
    mean = sum(times * count for times, count in seen.items()) / total
    never = f"; {seen[0]:,} never" if seen.get(0) else ""
    yield f"<p>{total:,} samples, {mean:.2f} times on average, from {min(seen)} to {max(seen)} times{never}.</p>"
    drawn = bars("samples by how often they were trained on", sorted(seen.items()), "times trained on")
    yield f'<div class="charts"><figure>{drawn}</figure></div>'


def _artefacts(lock: Sequence[Artefact] | None) -> Iterable[str]:
    if not lock:
        yield "<p>None: the run used no prior, or was trained without a lock file.</p>"
        return
    rows = []
    for one in lock:
        where = f"{one.repo}@{one.revision}/{one.path}" if one.repo else "made on this machine"
        rows.append((one.kind, where, one.sha256))
    head = "<tr><th>kind</th><th>where</th><th>sha256 or digest</th></tr>"
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    yield f"<table>{head}{body}</table>"


def _repetition(run: Mapping[str, Any], folder: Path) -> Iterable[str]:
    if run.get("command"):
        yield f"<p>The command that started it:</p><pre>{escape(run['command'])}</pre>"
    config = ["rela-zoo", "pretrain", "--config-path", str(folder), "--config-name", "config"]
    again = shlex.join([*config, "checkpoint.dir=repeated"])
    yield f"<p>From its configuration, in the same folder and with the same data:</p><pre>{escape(again)}</pre>"
    if (folder / "rela.lock").is_file():
        locked = shlex.join([*config, "checkpoint.dir=repeated", "--lock", str(folder / "rela.lock")])
        yield f"<p>Insisting on the same artefacts:</p><pre>{escape(locked)}</pre>"


def _environment(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield key, ", ".join(f"{name} {one}" for name, one in value.items())
        elif value is not None:
            yield key, str(value)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
    return f"<table>{body}</table>"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "not kept"
