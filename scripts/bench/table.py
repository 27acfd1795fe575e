"""What all benchmarks found, on one page: every figure a ratio against a named alternative in the same run.

    python scripts/bench/table.py [--results scripts/bench/results] [--out docs/benchmarks.md]

Reads the JSON files of `run.py`; what is not there is left out. The page says where each ran, and what was wanted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_HEAD = """# Benchmarks

Every figure is a ratio against a named alternative, on the same work, by turns in the same run; written by
`scripts/bench/table.py` from the files in `scripts/bench/results`, which say versions and commands.
`python scripts/bench/run.py --out DIR` runs them all, `--device cuda` on a GPU. What is wanted and not reached was not
reached.

"""


class Line(NamedTuple):
    """A line of the table: what, against what, the ratio, the wanted one."""

    what: str
    against: str
    found: str
    wanted: str = ""


def _range(found: list[float]) -> str:
    middle, low, high = found
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def _embed(found: dict[str, Any]) -> Iterator[Line]:
    on_gpu = bool(found["environment"].get("gpu"))
    for name, one in found["priors"].items():
        compiled = " compiled, and that counted" if found.get("compile") else ""
        what = f"images/s of `embed`, {name}{compiled}, {one['input_px']} px"
        wanted = "≥ 0.95" if on_gpu else "≥ 0.50" if one["input_px"] <= 64 else "≥ 0.90"
        yield Line(what, "the model alone on numbers in memory", _range(one["embed_over_resident"]), wanted)
        if not on_gpu:  # whose time a processor's seconds don't tell
            yield Line(
                "the same, by CPU seconds of the thread that runs the model", "the same",
                _range(one["embed_over_resident_by_thread"]), wanted,
            )  # fmt: skip
        yield Line("the same", "a plain loop, as in ReLA's code", _range(one["embed_over_plain"]), "≥ 1.5")
        yield Line("the same", "timm's loader and a plain loop", _range(one["embed_over_timm"]), "≥ 1.2")
        if "embed_over_thingsvision" in one:
            yield Line("the same", "thingsvision's extractor", _range(one["embed_over_thingsvision"]), "≥ 1.2")


def _rows(against: str, wanted: dict[str, str], key: str, labels: tuple[str, ...]) -> Callable[[Any], Iterator[Line]]:
    def lines(found: dict[str, Any]) -> Iterator[Line]:
        runs = found.get("runs", [found])
        for row in (row for run in runs for row in run["rows"]):
            if row["relative"] == 1.0 == row["relative_min"]:
                continue  # the alternative itself
            what = ", ".join(str(row[label]) for label in (*labels, key))
            bar = next((bar for part, bar in wanted.items() if part in what), "")
            yield Line(what, against, _range([row[name] for name in ("relative", "relative_min", "relative_max")]), bar)

    return lines


def _decode(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["files"].items():
        yield Line(
            f"CPU time of a JPEG until its pixels lie in an array, {name}", "Pillow", _range(one["array"]["ratio"])
        )


def _pretrain(found: dict[str, Any]) -> Iterator[Line]:
    wanted = "≥ 0.85" if found["environment"].get("gpu") else "≥ 0.90"
    for row in found["rows"]:
        ratio = _range([row["ratio"], row["ratio_min"], row["ratio_max"]])
        what = f"samples/s of the built-in host, {row.get('setting', 'ResNet-18, 32 px')}, {row['stage']}"
        yield Line(what, "the same step on resident batches", ratio, wanted)


def _checkout(found: dict[str, Any]) -> Iterator[Line]:
    for row in found["rows"]:
        what = f"{row['pace'].replace('_', ' ')} of `embed`, {found['prior']}"
        wanted = "≥ 2" if "cpu" in row["pace"] else ""
        ratio = _range([row[name] for name in ("relative", "relative_min", "relative_max")])
        yield Line(what, f"the same of commit {found['commits']['other']}", ratio, wanted)


def _precision(found: dict[str, Any]) -> Iterator[Line]:
    for prior, kinds in found["priors"].items():
        full = kinds.get("32")
        for kind, one in kinds.items():
            if full is not None and one is not full:
                what = f"images/s of {prior} in {kind} (rows: cosine ≥ {one['rows']['smallest_cosine']:.5f}, "
                what += f"difference ≤ {one['rows']['largest_difference']:.3f})"
                yield Line(what, "float32", f"{one['images_per_second'] / full['images_per_second']:.2f}")


def _compile(found: dict[str, Any]) -> Iterator[Line]:
    for prior, one in found["priors"].items():
        if one["works"]:
            what = f"images/s of {prior}, compiled in {one['compile_s']:.0f} s, which {one['pays_from']:,} images save"
            yield Line(what, "the prior as it is", _range(one["speedup"]))


_TIMES = {
    "call_s": ("the call", "≤ 1.25"),
    "process_s": ("the process", "≤ 1.25"),
    "cpu_s": ("CPU seconds, hashing included", ""),
}


def _pull(found: dict[str, Any]) -> Iterator[Line]:
    what = f"time of `pull`, {found['rows']:,} × {found['dim']}"
    for key, ratio in found["ratio"].items():
        # Hashing what has come takes processor time that the Hub's client does not take.
        kind, wanted = _TIMES[key]
        yield Line(f"{what}: {kind}", "`hf download` of the same files", f"{ratio:.2f}", wanted)


def _pairs(found: dict[str, Any]) -> Iterator[Line]:
    what = f"fitting a transport between priors, {found['rows']:,} rows of {' and '.join(map(str, found['dims']))}"
    limit = "the machine's float64 products and file reads"
    yield Line(f"{what}: pace", limit, f"{found['share_of_limit']:.2f}")


def _selection(found: dict[str, Any]) -> Iterator[Line]:
    for key, other in found.items():
        if key.startswith("alternative to "):
            kind, how = key.removeprefix("alternative to ").split(": ", 1)
            theirs = other.get("cpu_seconds", other.get("extrapolated_cpu_seconds"))
            what = f"CPU time of {kind}, {found['rows']:,} rows"
            mark = ", extrapolated" if "extrapolated_cpu_seconds" in other else ""
            yield Line(what, how + mark, f"{found[kind]['cpu_seconds'] / theirs:.2f}")


def _embeddings(found: dict[str, Any]) -> Iterator[Line]:
    reads = found["reads"]
    ours = reads["rela_zoo.open_embeddings"]
    for name, other in reads.items():
        if other is not ours:
            ratio = _first_rows(ours) / _first_rows(other)
            yield Line(f"time to the first 1,024 random rows of {found['rows']:,}, cold", f"`{name}`", f"{ratio:.2f}")


def _first_rows(reads: dict[str, float]) -> float:
    return reads["open_ms"] + reads["read_1024_cold_ms"]


TABLES: dict[str, Callable[[Any], Iterator[Line]]] = {
    "embed": _embed,
    "decode": _decode,
    "another_checkout": _checkout,
    "precision": _precision,
    "compile": _compile,
    "step": _rows("bare solo-learn, a step of BYOL", {"wrapped": "≤ 1.01"}, "variant", ("setting",)),
    "solo_epoch": _rows(
        "bare solo-learn, an epoch of BYOL with its loader", {"a fifth": "≤ 0.5"}, "variant", ("setting",)
    ),
    "views": _rows("`BatchViews`, time an image", {"kornia": "≥ 0.77"}, "made_by", ("setting", "recipe")),
    "pretrain": _pretrain,
    "pull": _pull,
    "pairs": _pairs,
    "selection": _selection,
    "embeddings": _embeddings,
}


def page(folder: Path) -> str:
    """The page of the results in a folder."""
    parts = [_HEAD]
    for name, lines in TABLES.items():
        paths = [path for path in (folder / f"{name}.json", *sorted(folder.glob(f"{name}-*.json"))) if path.is_file()]
        for path in paths:
            found = json.loads(path.read_text(encoding="utf-8"))
            parts.append(f"## {path.stem}\n\n| what | against | ratio | wanted |\n|---|---|---|---|\n")
            parts += [f"| {one.what} | {one.against} | {one.found} | {one.wanted} |\n" for one in lines(found)]
            parts.append(f"\n{_circumstances(found)}\n\n")
    return "".join(parts).rstrip() + "\n"


def _circumstances(found: dict[str, Any]) -> str:
    facts = found.get("environment") or found["runs"][0]["environment"]
    versions = {**{k: facts[k] for k in ("torch", "lightning", "timm") if k in facts}, **facts.get("versions", {})}
    kept = [f"{name} {versions[name]}" for name in ("torch", "lightning", "timm") if name in versions]
    load = facts.get("load_average_at_end")
    busy = "" if load is None else f"; load at the end {load[0]}"
    device = facts.get("gpu") or facts.get("device", "cpu")
    note = f" {found['note'][0].upper()}{found['note'][1:]}." if "note" in found else ""
    return f"{facts.get('cpu', 'unknown processor')}, {device}; {', '.join(kept)}{busy}.{note}"


def main() -> None:
    """Write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    text = page(args.results)
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
