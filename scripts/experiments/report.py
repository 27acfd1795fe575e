"""Tables and figures of a results file.

    python scripts/experiments/report.py scripts/experiments/results/cpu.jsonl --out scripts/experiments/results/cpu

Writes report.md and PNGs into the folder. Accuracies are mean ± sample standard deviation over seeds. Costs count what
a user pays: preparation, training, and embedding the data with the prior; judging the network is left out. The cost of
reaching an accuracy is read off the mean curve, by a straight line between judgements; full-data BYOL is held to the
same rule. Rows of different engines are never averaged nor compared: each engine has a section of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_HERE = Path(__file__).resolve()
sys.path[:0] = [str(_HERE.parents[2]), str(_HERE.parents[1])]

from experiments import _results  # noqa: E402
from experiments._compare import (  # noqa: E402
    MEASURES,
    Difference,
    best_baseline,
    difference,
    has_learnt,
    price,
    reached_at,
)
from experiments._figures import draw_accuracies, draw_costs, draw_curves, draw_prices  # noqa: E402
from experiments._summary import COSTS, ENGINES, Cell, cells, cost_to_reach, mean_sd  # noqa: E402

_MOST_CURVES = 8  # in one figure, or nobody can tell them apart
_TITLES = {
    "product": "Trained by `rela-zoo pretrain`'s own code",
    "standalone": "Trained by the loop that this folder had before",
}
# Columns of the table of prices, with or without the embedding.
_SHOWN = (("samples", True), ("cpu", False), ("cpu", True))
_ACCURACIES = {"linear_accuracy": "linear, %", "knn_accuracy": "20-NN, %", "few_label_accuracy": "10 labels a class, %"}


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON lines written by run.py")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--draw", nargs="+", metavar="RUN", help="runs in prices.png, named as in the report's tables")
    arguments = parser.parse_args(argv)
    rows = _results.read(arguments.results)
    if not rows:
        print(f"error: expected results in {arguments.results}, found none; run.py makes them", file=sys.stderr)
        return 2
    by_engine = {engine: cells(row for row in rows if row["engine"] == engine) for engine in ENGINES}
    known = [cell.name for cell in by_engine["product"]]
    if unknown := [name for name in arguments.draw or () if name not in known]:
        print(f"error: expected for --draw names out of {known}, got {unknown}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = ["# Results", ""]
    for engine, found in by_engine.items():
        if found:
            prefix = "" if engine == ENGINES[0] else f"{engine}-"
            if engine == "product":
                section = product_section(found, arguments.out, arguments.draw)
            else:
                section = _section(found, draw_all(found, arguments.out, prefix))
            lines += [f"## {_TITLES[engine]}", "", *section, ""]
    (arguments.out / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(arguments.out / "report.md")
    return 0


def product_section(found: list[Cell], out: Path, drawn: list[str] | None = None) -> list[str]:
    """What the report says of rows of the product: every cell, and each against the best baseline that has learnt."""
    untrained = next((cell for cell in found if not _is_trained(cell)), None)
    lines = [*_made_by(found), "", "| run | linear, % | 20-NN, % | 10 labels a class, % | samples seen | CPU-s | with "]
    lines[-1] += "the embedding | n | beats the untrained student |"
    lines.append("|---" * 9 + "|")
    for cell in found:
        words = [_percent(cell.values(key)) for key in _ACCURACIES]
        words += [f"{price(cell.rows, -1, column, embedding=with_it):,.0f}" for column, with_it in _SHOWN]
        learnt = "–"
        if untrained is not None and untrained is not cell:
            learnt = "yes" if has_learnt(cell, untrained) else "not shown"
        lines.append(f"| {cell.name} | {' | '.join(words)} | {len(cell.rows)} | {learnt} |")
    lines += ["", "*Beats*: by two standard errors of the paired differences, by linear probe and by 20-NN.", ""]
    draw_prices([cell for cell in found if drawn is None or cell.name in drawn], untrained, out / "prices.png")
    reference = best_baseline(found)
    if reference is None:
        lines += [
            "No baseline on all of the data has been shown to learn: there is nothing to measure costs against.",
            "",
        ]
    else:
        lines += _against(reference, [cell for cell in found if _is_trained(cell) and cell is not reference])
    return [*lines, "![accuracy by CPU-seconds](prices.png)"]


def _against(reference: Cell, others: list[Cell]) -> list[str]:
    """Paired differences to the best baseline, and what it costs to get there."""
    whole = price(reference.rows, -1, "cpu")
    target = {key: mean_sd(reference.values(key))[0] for key in MEASURES}
    lines = [
        f"### Against the best baseline: {reference.name}",
        "",
        f"It took {whole:,.0f} CPU-seconds. Differences at the end of each run, in points, with 95 % intervals over "
        "seeds; the cost is that of the first judgement at which the means of both measures are at least the "
        "baseline's last, as a multiple of its cost.",
        "",
        "| run | linear | 20-NN | gets there at, CPU-s | of the baseline's | the same, embedding not counted |",
        "|---" * 6 + "|",
    ]
    for cell in others:
        words = [_points(difference(cell, reference, key)) for key in MEASURES]
        point = reached_at(cell, target)
        if point is None:
            words += ["–", "–", "–"]
        else:
            paid, bare = (price(cell.rows, point, "cpu", embedding=with_it) for with_it in (True, False))
            words += [f"{paid:,.0f}", f"× {paid / whole:.2f}", f"× {bare / whole:.2f}"]
        lines.append(f"| {cell.name} | {' | '.join(words)} |")
    return [*lines, ""]


def _points(found: Difference | None) -> str:
    if found is None:
        return "–"
    return f"{found.mean * 100:+.1f}" + ("" if found.half is None else f" ± {found.half * 100:.1f}")


def untrained_accuracy(found: list[Cell]) -> float | None:
    """Mean linear accuracy of the untrained student; None without such runs."""
    return next((mean_sd(cell.values("linear_accuracy"))[0] for cell in found if not _is_trained(cell)), None)


def reference_accuracy(found: list[Cell]) -> float | None:
    """Mean linear accuracy of BYOL on all of the data; None without such runs."""
    return next((mean_sd(cell.values("linear_accuracy"))[0] for cell in found if cell.is_reference), None)


def _is_trained(cell: Cell) -> bool:
    return cell.settings["method"] != "untrained"


def draw_all(found: list[Cell], out: Path, prefix: str) -> list[str]:
    """All figures that the cells allow; returns the names of the files, which begin with `prefix`."""
    start, target = untrained_accuracy(found), reference_accuracy(found)
    trained = [cell for cell in found if _is_trained(cell)]
    plain = [
        cell
        for cell in trained
        if cell.settings["method"] == "byol"
        and cell.settings["selection"] == "uniform"
        and cell.settings["head"] in (None, "frozen")
        and cell.settings["handover"] in (None, "adaptive")
    ]
    # The full-data baseline first, then the ratio with the most cells: that is where the comparison lies.
    ratios = [cell.settings["data_ratio"] for cell in plain]
    commonest = max(ratios, key=ratios.count, default=None)
    plain.sort(key=lambda cell: (not cell.is_reference, cell.settings["data_ratio"] != commonest))
    names = [f"{prefix}accuracies.png"]
    draw_accuracies(found, out / names[0])
    if trained:
        for cost in COSTS:
            names.append(f"{prefix}accuracy-{cost.replace('_', '-')}.png")
            draw_curves(plain[:_MOST_CURVES] or trained[:_MOST_CURVES], cost, start, target, out / names[-1])
    if _is_target(start, target):
        names.append(f"{prefix}cost-to-reach.png")
        draw_costs(trained, start, target, out / names[-1])
    return names


def _is_target(start: float | None, target: float | None) -> bool:
    return target is not None and (start is None or target > start)


def _section(found: list[Cell], figures: list[str]) -> list[str]:
    """What the report says of the rows of one engine, in Markdown."""
    start, target = untrained_accuracy(found), reference_accuracy(found)
    kinds = [key for key in _ACCURACIES if all(key in row for cell in found for row in cell.rows)]
    lines = [
        *_made_by(found),
        "",
        f"| run | {' | '.join(_ACCURACIES[key] for key in kinds)} | samples seen | TFLOP | of which prior | seconds | "
        "of which prior | n |",
        "|---" * (len(kinds) + 7) + "|",
        *(_accuracy_line(cell, kinds) for cell in found),
        "",
    ]
    if target is None:
        lines += ["There is no run of BYOL on all of the data, so nothing to measure costs against.", ""]
    elif not _is_target(start, target):
        lines += [
            f"**BYOL on all of the data ({target * 100:.1f} %) is no better than the untrained student "
            f"({(start or 0) * 100:.1f} %): reaching its accuracy would mean nothing.**",
            "",
        ]
    else:
        lines += [
            f"### What it costs to reach BYOL on all of the data ({target * 100:.1f} %)",
            "",
            *_costs(found, start, target),
            "",
        ]
    return lines + [f"![{name.removesuffix('.png')}]({name})" for name in figures]


def _made_by(found: list[Cell]) -> list[str]:
    """Which images, machine and versions."""
    rows = [row for cell in found for row in cell.rows]
    versions: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, number in row["versions"].items():
            versions.setdefault(name, {})[number] = None
    words = ", ".join(f"{name} {' and '.join(numbers)}" for name, numbers in versions.items())
    hardware = "; ".join(dict.fromkeys(row["hardware"] for row in rows))
    return [
        f"{_images_of(rows)}, {rows[0]['images']:,} training images. {hardware}; {words}. "
        "Mean ± standard deviation over seeds; n is their number."
    ]


def _images_of(rows: list[dict]) -> str:
    """Which images the runs were trained on."""
    paths = {str((row.get("config") or {}).get("data", {}).get("train_path") or "cifar10") for row in rows}
    if all(path.startswith("cifar10") for path in paths):
        return "CIFAR-10 re-encoded as JPEG (figures on the original images are not comparable)"
    return ", ".join(sorted(paths))


def _accuracy_line(cell: Cell, kinds: list[str]) -> str:
    words = [_percent(cell.values(key)) for key in kinds]
    words.append(f"{mean_sd(cell.values('samples_seen'))[0]:,.0f}")
    prior = {key: mean_sd([row.get(key, 0) for row in cell.rows])[0] for key in ("prior_flops", "prior_seconds")}
    words += [f"{mean_sd(cell.values('flops'))[0] / 1e12:.1f}", f"{prior['prior_flops'] / 1e12:.1f}"]
    words += [f"{mean_sd(cell.values('wall_seconds'))[0]:.0f}", f"{prior['prior_seconds']:.0f}"]
    return f"| {cell.name} | {' | '.join(words)} | {len(cell.rows)} |"


def _percent(values: list[float]) -> str:
    mean, deviation = mean_sd(values)
    return f"{mean * 100:.1f}" + (f" ± {deviation * 100:.1f}" if deviation is not None else "")


def _costs(found: list[Cell], start: float | None, target: float) -> list[str]:
    """A table: costs of reaching the target, and in brackets as a multiple of the reference's."""
    lines = ["| run | samples seen | TFLOP | seconds | seeds that get there |", "|---|---|---|---|---|"]
    reference = next(cell for cell in found if cell.is_reference)
    for cell in filter(_is_trained, found):
        words = []
        for cost, form, scale in zip(COSTS, ("{:,.0f}", "{:.1f}", "{:.0f}"), (1, 1e-12, 1), strict=True):
            own, base = (cost_to_reach(each.rows, target, cost, start) for each in (cell, reference))
            words.append("–" if own is None else f"{form.format(own * scale)} (× {own / base:.2f})")
        reached = sum(cost_to_reach([row], target, COSTS[0], start) is not None for row in cell.rows)
        lines.append(f"| {cell.name} | {' | '.join(words)} | {reached} of {len(cell.rows)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
