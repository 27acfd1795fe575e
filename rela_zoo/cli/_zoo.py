"""`rela-zoo zoo`: measure priors on data sets, with transports between all of them, and show them on a page."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rela_zoo._io.log import speak
from rela_zoo._io.paths import artefact_cache
from rela_zoo._io.text import format_bytes, format_duration
from rela_zoo.cli._complete import priors as complete_priors
from rela_zoo.errors import RegistryError

if TYPE_CHECKING:
    from rela_zoo.analysis.zoo import CellEstimate, ZooData

zoo_app = typer.Typer(help="Build and show the zoo: priors, measured, with transports.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(zoo_app, name="zoo", rich_help_panel="Sharing")


@zoo_app.command("build")
def build_command(
    datasets: Annotated[
        list[str],
        typer.Option(
            help="NAME=PATH, FILE.yaml=PATH with a description in the file, or digits. May be repeated, or be a list "
            "with commas."
        ),
    ],
    out: Annotated[str, typer.Option(help="A folder, or hf://org. Run again after a stop, it goes on where it was.")],
    priors: Annotated[
        list[str] | None,
        typer.Option(
            help="Names or YAML entries, repeated or with commas. Default: all that load here and now.",
            autocompletion=complete_priors,
        ),
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help="Only this cell, DATA/PRIOR or DATA/PRIOR--PRIOR, * for any text.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make the cells of --cell anew although they are there.")
    ] = False,
    work: Annotated[Path | None, typer.Option(help="With hf://org: the folder in which it is built.")] = None,
    publish: Annotated[bool, typer.Option(help="Write the published form, too; to hf://org that is the point.")] = True,
    sign: Annotated[
        list[Path] | None,
        typer.Option(metavar="KEYFILE", help="Sign what is published by this key of `rela-zoo keygen`."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where priors run. Default: a GPU if there is one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say cells, time and bytes; make nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending to hf://org.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Embed data sets with priors, fit all transports, measure, and write results, cards and an index."""
    from rela_zoo.analysis import zoo

    names, sets = _listed(priors or []), _listed(datasets)
    if sign:
        from rela_zoo.remote import read_key

        if not publish:
            raise typer.BadParameter("expected --publish: only what is published is signed", param_hint="--sign")
        for file in sign:
            read_key(file)  # a key that can't be read is said before the work, not after it
    speak("stderr")
    place, org, to = _place(out, work)
    with TemporaryDirectory() as nowhere:
        made = Path(nowhere) if dry_run else place / "data"
        planned = zoo.plan_zoo(names, [_opened(one, made) for one in sets], place, cells=cell or (), again=again)
        if dry_run:
            _print_estimate(zoo.estimate(planned, device=device), as_json)
            return
    if sign:
        zoo.check_zoo_signers(planned, org=org, to=to, sign=sign)
    command = ["rela-zoo", "zoo", "build"]
    command += ["--priors", ",".join(one.id for one in planned.priors)]
    for one in planned.data:
        command += ["--datasets", one.argument]
    results = zoo.build_zoo(planned, command=shlex.join([*command, "--out", "OUT"]), device=device)
    cards = zoo.write_cards(planned, results)
    if as_json:
        typer.echo(zoo.as_json(results))
    else:
        typer.echo(f"results: {place / 'results'}, cards: {cards}")
    if not publish:
        return
    if to is None and not yes and not (sys.stdin.isatty() and typer.confirm(f"send it to {org} on the Hub?")):
        typer.echo(f"nothing was sent; the same command with --yes sends it to {org}", err=True)
        return
    done = zoo.publish_zoo(planned, results, org=org, to=to, sign=sign or ())
    for name, why in done.left_out.items():
        typer.echo(f"not published: {name}: {why}", err=True)
    if done.index is not None:
        repo, commit = done.index
        mirror = "" if to is None else f"RELA_ZOO_MIRROR={to.resolve()} "
        typer.echo(
            f"published: {len(done.done)} priors; others find them with {mirror}RELA_ZOO_INDEX={repo}@{commit}",
            err=as_json,
        )


@zoo_app.command("page")
def page_command(
    out: Annotated[Path, typer.Option(help="Folder to write; its index.html needs nothing beside it.")],
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of results of `zoo build`, beside those that come with the package."),
    ] = None,
) -> None:
    """Write one HTML page of all priors: to search and sort, with what was measured, and how to use each."""
    from rela_zoo.analysis.zoo import write_zoo_page
    from rela_zoo.registry import list_priors, packaged_results, read_results_folder

    found = {one.data.name: one for one in packaged_results()}
    for folder in results or ():
        own = read_results_folder(folder)
        if not own:
            raise RegistryError(f"there are no results in {folder}", expected="the folder results/ of a built zoo")
        found |= {one.data.name: one for one in own}
    typer.echo(f"page: {write_zoo_page(out, list_priors(), list(found.values()))}")


def _listed(given: list[str]) -> list[str]:
    return [one for text in given for one in text.split(",") if one]


def _place(out: str, work: Path | None) -> tuple[Path, str, Path | None]:
    """The folder to build in, whose repositories, and the folder that they are published in; None for the Hub."""
    if not out.startswith("hf://"):
        if work is not None:
            raise typer.BadParameter("expected an address hf://org beside it", param_hint="--work")
        return Path(out).expanduser(), "zoo", Path(out).expanduser()
    org = out.removeprefix("hf://").strip("/")
    if not org or "/" in org:
        raise typer.BadParameter(f"expected hf://org, got {out!r}", param_hint="--out")
    return work or artefact_cache() / "zoo" / org, org, None


def _opened(given: str, made: Path) -> ZooData:
    """A data set; `digits`, which comes with a dependency, is written into the folder `made`."""
    from rela_zoo.analysis.zoo import describe, open_data, opened
    from rela_zoo.data import image_source

    if given != "digits":
        return open_data(given)
    from rela_zoo.demo import write_digits

    train, val = write_digits(made / "digits")
    about = describe(
        "digits",
        title="scikit-learn's handwritten digits, 8×8 enlarged to 32×32",
        seen_as=["digits"],
        note="A full linear probe nearly saturates on these images; few labels and k-NN tell more.",
    )
    return opened(about, image_source(str(train)), image_source(str(val)), "digits")


def _print_estimate(found: list[CellEstimate], as_json: bool) -> None:
    todo = [one for one in found if not one.finished]
    facts: dict[str, Any] = {
        "cells": len(found),
        "finished": len(found) - len(todo),
        "seconds": round(sum(one.seconds for one in todo), 1),
        "bytes": sum(one.bytes for one in todo),
    }
    if as_json:
        typer.echo(json.dumps({**facts, "each": [asdict(one) for one in found]}, indent=1))
        return
    for one in found:
        state = "finished" if one.finished else f"{format_duration(one.seconds):>8}  {format_bytes(one.bytes):>9}"
        typer.echo(f"{one.name}  {state}")
    typer.echo(
        f"{facts['cells']} cells, {facts['finished']} finished; to be made: about {format_duration(facts['seconds'])} "
        f"on this machine, {format_bytes(facts['bytes'])}"
    )
