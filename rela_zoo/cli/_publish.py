"""`rela-zoo publish`: a prior of one's own on the Hugging Face Hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from rela_zoo._io.log import speak

if TYPE_CHECKING:
    from rela_zoo.hub.publish import Plan, Publication

_SOURCE, _FACTS, _SENDING = "The prior (one of)", "What is known about it", "Sending"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish", rich_help_panel="Sharing")(publish_command)


def _triple(text: str | None, option: str) -> tuple[float, ...] | None:
    """`0.5,0.5,0.5` → numbers."""
    if text is None:
        return None
    try:
        values = tuple(float(one) for one in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise typer.BadParameter(f"expected three numbers such as 0.485,0.456,0.406, got {text!r}", param_hint=option)
    return values * 3 if len(values) == 1 else values


@contextmanager
def _progress() -> Iterator[None]:
    """The client's bars only on a terminal: a log is none."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


def publish_command(
    repo: Annotated[str | None, typer.Option(help="Model repository, org/name; made when missing.")] = None,
    entry: Annotated[
        str | None,
        typer.Option(
            help="A registry entry: YAML file, or a registered name (of a packaged prior: its embeddings alone).",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    timm: Annotated[
        str | None,
        typer.Option(
            help="A timm model: arch.tag with its own weights, or arch with --weights.", rich_help_panel=_SOURCE
        ),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            help="package.module:callable, or path/to/module.py:callable, which returns the network.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of solo-learn or `rela-zoo pretrain`: its backbone.", rich_help_panel=_SOURCE),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Safetensors file for --entry, --timm or --module.", rich_help_panel=_SOURCE),
    ] = None,
    embeddings: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="A data set's embeddings, by `rela-zoo embed`.")
    ] = None,
    transport: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A transport by `rela-zoo transport fit`; one to another prior, too."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="CSV, JSONL or Parquet with id and label or split, to be published with the rows."
        ),
    ] = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Publish everything but the weights.")] = False,
    embeddings_repo: Annotated[
        str | None, typer.Option(help="Data-set repository of embeddings. Default: REPO-embeddings.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Name of the prior.", rich_help_panel=_FACTS)] = None,
    title: Annotated[str | None, typer.Option(help="One line.", rich_help_panel=_FACTS)] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of the weights.", rich_help_panel=_FACTS)
    ] = None,
    licence_link: Annotated[str | None, typer.Option(help="Its text, for `other`.", rich_help_panel=_FACTS)] = None,
    redistribute: Annotated[
        bool,
        typer.Option(
            "--redistribute", help="You have read that a licence `other` allows this.", rich_help_panel=_FACTS
        ),
    ] = False,
    training_data: Annotated[
        str | None, typer.Option(help="What it was trained on, and whether with labels.", rich_help_panel=_FACTS)
    ] = None,
    citation: Annotated[str | None, typer.Option(help="One line.", rich_help_panel=_FACTS)] = None,
    arxiv: Annotated[list[str] | None, typer.Option(help="Paper, 2405.14669.", rich_help_panel=_FACTS)] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Hub repository that the weights derive from.", rich_help_panel=_FACTS)
    ] = None,
    source_dataset: Annotated[
        list[str] | None, typer.Option(help="Hub data set that embeddings were made of.", rich_help_panel=_FACTS)
    ] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown for the model card.", rich_help_panel=_FACTS)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="YAML list of measured numbers, each read from its results file.", rich_help_panel=_FACTS),
    ] = None,
    input_size: Annotated[int | None, typer.Option(min=1, help="Centre crop.", rich_help_panel=_FACTS)] = None,
    resize: Annotated[int | None, typer.Option(min=1, help="Shorter side.", rich_help_panel=_FACTS)] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="bilinear, bicubic, nearest, lanczos.", rich_help_panel=_FACTS)
    ] = None,
    mean: Annotated[str | None, typer.Option(help="r,g,b in [0, 1].", rich_help_panel=_FACTS)] = None,
    std: Annotated[str | None, typer.Option(help="r,g,b.", rich_help_panel=_FACTS)] = None,
    tag: Annotated[
        str | None, typer.Option(help="Of the version. Default: the next vN.", rich_help_panel=_SENDING)
    ] = None,
    sign: Annotated[
        list[Path] | None,
        typer.Option(metavar="KEYFILE", help="Sign by this key of `rela-zoo keygen`.", rich_help_panel=_SENDING),
    ] = None,
    pr: Annotated[bool, typer.Option("--pr", help="Open pull requests instead.", rich_help_panel=_SENDING)] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make new repositories private.", rich_help_panel=_SENDING)
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop what is there and not given now.", rich_help_panel=_SENDING)
    ] = False,
    replace_card: Annotated[
        bool, typer.Option("--replace-card", help="Overwrite cards edited on the Hub.", rich_help_panel=_SENDING)
    ] = False,
    verify: Annotated[
        str, typer.Option(help="download: fetch all back; digests: ask the Hub's.", rich_help_panel=_SENDING)
    ] = "download",
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="To a folder instead of the Hub, a mirror.", rich_help_panel=_SENDING),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, send nothing.", rich_help_panel=_SENDING)] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=_SENDING)] = False,
    prepare: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Only write a local entry to embed with.", rich_help_panel=_SENDING),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Publish a prior, and any of its weights, embeddings and transports, on the Hugging Face Hub."""
    from rela_zoo.hub.cards import read_measured
    from rela_zoo.hub.publish import Details, publish
    from rela_zoo.hub.publish import prepare as write_local

    details = Details(
        id=id, title=title, licence=licence, licence_link=licence_link, training_data=training_data,
        citation=citation, arxiv=tuple(arxiv or ()), input_size=input_size, resize=resize,
        interpolation=interpolation, mean=_triple(mean, "--mean"), std=_triple(std, "--std"),
        base_model=base_model, source_datasets=tuple(source_dataset or ()), redistribute=redistribute,
    )  # fmt: skip
    source: dict[str, Any] = dict(entry=entry, timm=timm, module=module, checkpoint=checkpoint, weights=weights)
    if prepare is not None:
        typer.echo(f"{write_local(prepare, **source, details=details)}")
        return
    if repo is None:
        raise typer.BadParameter("expected org/name", param_hint="--repo")
    if verify not in ("download", "digests"):
        raise typer.BadParameter("expected download or digests", param_hint="--verify")

    def show(plan: Plan) -> bool:
        _show(plan, err=as_json)
        if yes:
            return True
        if not sys.stdin.isatty():
            typer.echo("nobody to ask: give --yes", err=True)
            return False
        return typer.confirm("send this?")

    if not as_json:
        speak("stdout")
    with _progress():
        done = publish(
            repo,
            **source,
            upload_weights=not no_weights,
            embeddings=embeddings or (),
            transports=transport or (),
            labels=labels or (),
            embeddings_repo=embeddings_repo,
            details=details,
            notes=notes.read_text(encoding="utf-8") if notes else "",
            measured=read_measured(results, results.parent) if results else (),
            tag=tag,
            sign=sign or (),
            pr=pr,
            private=private,
            replace=replace,
            replace_card=replace_card,
            dry_run=dry_run,
            to=to,
            verify_by=cast(Literal["download", "digests"], verify),
            confirm=show,
        )
    if dry_run:
        _show(done.plan, err=as_json)
    _print(done, dry_run, as_json)
    if to is not None and not dry_run and not as_json:
        typer.echo(f"where others find it: RELA_ZOO_MIRROR={to.expanduser().resolve()}, or a copy of that folder")


def _show(plan: Plan, err: bool) -> None:
    """File by file, with sizes and the sum."""
    from rela_zoo._io.text import format_bytes

    def line(text: str = "") -> None:
        typer.echo(text, err=err)

    total = 0
    for change in plan.changes:
        wanted, new = change.wanted, "new " if change.create else ""
        how = "private " if plan.private and change.create else ""
        line(f"{new}{how}{wanted.kind} repository {wanted.repo}")
        for one in change.send:
            line(f"  send    {format_bytes(one.size):>9}  {one.path}")
        sending = {one.path for one in change.send}
        quiet = [one.path for one in wanted.all_files() if one.path not in sending]
        if quiet and change.send:
            line(f"  there already: {len(quiet)} files")
        elif quiet:
            line("  nothing changed")
        for path in change.delete:
            line(f"  remove             {path}")
        if wanted.kept:
            line(f"  kept from before: {len(wanted.kept)} files")
        for identity in (key.identity for key in wanted.keys):
            line(f"  signed by {identity}")
        if change.unsigns:
            line("  the version there is signed, and this one will not be: --sign KEYFILE")
        if change.card_kept:
            line("  README.md was edited on the Hub: its words are left alone (--replace-card overwrites it)")
        total += change.bytes
    line(f"in all {format_bytes(total)} ({total:,} bytes)" + (", as pull requests" if plan.pr else ""))
    if plan.dataset is not None:
        line("embeddings hold numbers and sample ids (such as relative file names), and no image")


def _print(done: Publication, dry_run: bool, as_json: bool) -> None:
    if as_json:
        facts = {
            "repo": done.repo, "commit": done.commit, "name": done.name, "tag": done.tag,
            "dataset_repo": done.dataset_repo, "dataset_commit": done.dataset_commit,
            "signed_by": sorted({key.identity for one in done.plan.changes for key in one.wanted.keys}),
            "changed": done.changed, "listing": done.listing, "pull_requests": done.pulls, "dry_run": dry_run,
            "files": {
                change.wanted.repo: {one.path: one.size for one in change.send} for change in done.plan.changes
            },
        }  # fmt: skip
        typer.echo(json.dumps(facts, indent=2))
        return
    if dry_run:
        typer.echo("dry run: nothing was sent")
        return
    for url in done.pulls:
        typer.echo(f"pull request: {url}")
    if not done.changed:
        typer.echo("everything is published already")
    typer.echo(f"{done.name}" + (f"  ({done.tag})" if done.tag else ""))
    if done.listing is None:
        typer.echo(f"to train with it: rela-zoo pretrain … rela.prior={done.name}")
        typer.echo(f"to be found by its id: rela-zoo index add {done.name} --repo INDEX --pr")
        return
    rows = [name for sets in done.listing.values() for name, held in sets.items() if "embeddings" in held]
    if rows:
        typer.echo(f"to train with them: rela.embeddings={done.name}/{rows[0]}")
    typer.echo("to be found without it: rela-zoo index add --listing FILE --repo INDEX --pr, with this in FILE:")
    typer.echo(json.dumps(done.listing, indent=1))
