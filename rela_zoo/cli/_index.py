"""`rela-zoo index`: the one file by which others find what was published, here or on the Hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rela_zoo.errors import RegistryError

index_app = typer.Typer(
    help="The index by which others find what was published: index.json, in a file or on the Hub.", no_args_is_help=True
)

File = Annotated[Path | None, typer.Option("--file", help="The index is this file. Default: index.json.")]
Repo = Annotated[str | None, typer.Option(help="The index is this data-set repository of the Hub, org/name.")]
Pr = Annotated[bool, typer.Option("--pr", help="With --repo: open a pull request instead.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the new index, write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(index_app, name="index", rich_help_panel="Sharing")


@index_app.command("build")
def build_command(
    folder: Annotated[Path, typer.Argument(help="With NAME.yaml (repo, revision) a prior, and listings *.json.")],
    file: File = None,
    repo: Repo = None,
    pr: Pr = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Make an index of a folder's entries. Malformed ones are named and left out; then the exit code is 1."""
    from rela_zoo.hub import index_file

    document, left = index_file.build(folder)
    for line in left:
        typer.echo(f"left out: {line}", err=True)
    _apply(lambda _: document, f"Index of {len(document['priors'])} priors", file, repo, pr, dry_run, yes, new=True)
    raise typer.Exit(code=int(bool(left)))


@index_app.command("add")
def add_command(
    address: Annotated[str | None, typer.Argument(help="A published prior, hf://org/name@<commit>.")] = None,
    listing: Annotated[
        Path | None, typer.Option(help="Embeddings of a packaged prior: what `publish` printed, or its --json.")
    ] = None,
    file: File = None,
    repo: Repo = None,
    pr: Pr = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add one published prior, or a new version of it; or embeddings by identity. What is added is looked at first."""
    from rela_zoo.hub import index_file

    if (address is None) == (listing is None):
        raise typer.BadParameter("expected one of an address and --listing", param_hint="ADDRESS")

    def change(document: dict[str, Any]) -> dict[str, Any]:
        if address is not None:
            changed, name = index_file.add_prior(document, address)
            typer.echo(f"{name} → {address}", err=True)
            return changed
        assert listing is not None
        changed, said = index_file.add_listing(document, _json(listing))
        typer.echo("\n".join(said), err=True)
        return changed

    _apply(change, f"Add {address or (listing and listing.name)}", file, repo, pr, dry_run, yes)


@index_app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(help="A prior's name; or the sha256 of an identity.")],
    dataset: Annotated[str | None, typer.Option(help="Of an identity: only this data set.")] = None,
    file: File = None,
    repo: Repo = None,
    pr: Pr = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove one entry, a malformed one too; the others stay as they are."""
    from rela_zoo.hub import index_file

    _apply(lambda one: index_file.remove(one, name, dataset), f"Remove {name}", file, repo, pr, dry_run, yes)


@index_app.command("publish")
def publish_index_command(
    file: Annotated[Path, typer.Argument(help="The index to send.")],
    repo: Annotated[str, typer.Option(help="Data-set repository of the Hub, org/name; made when missing.")],
    pr: Pr = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send a whole index as one commit, in place of the one that is there."""
    from rela_zoo.hub import index_file

    document = index_file.read(file)
    if wrong := index_file.problems(document):
        raise RegistryError(
            f"{file} has entries that nobody can read", expected="none", got="; ".join(wrong[:5]),
            fix="mend them, or take them out: `rela-zoo index remove NAME`",
        )  # fmt: skip
    _apply(lambda _: document, f"Index of {len(document.get('priors', {}))} priors", None, repo, pr, dry_run, yes)


@index_app.command("check")
def check_command(
    file: File = None,
    repo: Repo = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List an index, and what in it nobody can read; exits 1 if there is any."""
    from rela_zoo.hub import index_file

    document = _read(file, repo)
    wrong = index_file.problems(document)
    if as_json:
        typer.echo(json.dumps({"index": document, "problems": wrong}, indent=1))
    else:
        for name, at in sorted(index_file.mapping(document, "priors").items()):
            typer.echo(f"{name}  {at.get('repo')}@{str(at.get('revision'))[:12]}" if isinstance(at, dict) else name)
        for identity, sets in sorted(index_file.mapping(document, "embeddings").items()):
            typer.echo(f"{identity}  {', '.join(sorted(sets)) if isinstance(sets, dict) else ''}")
        for line in wrong:
            typer.echo(f"problem: {line}", err=True)
    raise typer.Exit(code=int(bool(wrong)))


def _apply(
    change: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
    file: Path | None,
    repo: str | None,
    pr: bool,
    dry_run: bool,
    yes: bool,
    *,
    new: bool = False,
) -> None:
    """Change the index in a file, or that on the Hub."""
    from rela_zoo.hub import index_file

    if repo is not None and file is not None:
        raise typer.BadParameter("expected one of --file and --repo")
    if repo is None:
        if pr:
            raise typer.BadParameter("expected --repo beside it", param_hint="--pr")
        path = file or Path("index.json")
        document = change(index_file.empty() if new or not path.exists() else index_file.read(path))
        _warn(document)
        if dry_run:
            typer.echo(index_file.to_bytes(document).decode(), nl=False)
            return
        index_file.write(path, document)
        typer.echo(f"{path}: {_count(document)}")
        return
    from rela_zoo.hub.publish import send_index

    if not (yes or dry_run) and not (sys.stdin.isatty() and typer.confirm(f"{message} in {repo}?")):
        raise RegistryError("stopped before anything was sent", fix="the same command again, with --yes")
    sent = send_index(repo, change, message, pr=pr, dry_run=dry_run)
    _warn(sent.document)
    if dry_run:
        typer.echo(index_file.to_bytes(sent.document).decode(), nl=False)
    elif not sent.changed:
        typer.echo(f"{repo}: nothing changed")
    else:
        typer.echo(f"pull request: {sent.pull}" if sent.pull else f"{repo}@{sent.commit}: {_count(sent.document)}")


def _warn(document: dict[str, Any]) -> None:
    from rela_zoo.hub import index_file

    for line in index_file.problems(document):
        typer.echo(f"left as it is, though nobody can read it: {line}", err=True)


def _count(document: dict[str, Any]) -> str:
    from rela_zoo.hub.index_file import mapping

    listed = sum(len(one) for one in mapping(document, "embeddings").values() if isinstance(one, dict))
    return f"{len(mapping(document, 'priors'))} priors, {listed} data sets of embeddings"


def _read(file: Path | None, repo: str | None) -> dict[str, Any]:
    from rela_zoo.hub import index_file

    if repo is None:
        return index_file.read(file or Path("index.json"))
    from rela_zoo.hub.publish import send_index

    return send_index(repo, lambda one: one, "", dry_run=True).document


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"{path} can't be read", expected="JSON, as `rela-zoo publish` prints it", got=error, fix="correct the path"
        ) from error
