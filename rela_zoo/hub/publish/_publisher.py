"""`publish`: from a prior on this machine to a version that others pull by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_in
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi

from rela_zoo._io.log import logger
from rela_zoo.errors import HubError, RegistryError
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish._changes import Plan, Publication, RepoChange, compare_repo
from rela_zoo.hub.publish._check_artefacts import check_embeddings, check_transports, named_pairs, parse_named
from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._kept import keep_published
from rela_zoo.hub.publish._prepare import PriorChoice, work_folder
from rela_zoo.hub.publish._publishable_weights import check_may_publish
from rela_zoo.hub.publish._repo_state import RepoState, read_state
from rela_zoo.hub.publish._repositories import (
    Contribution,
    index_listing,
    model_repository,
    read_published_entry,
)
from rela_zoo.hub.publish._rows_repository import check_columns, embeddings_repository
from rela_zoo.hub.publish._send import check_cards, check_tag, check_token, put_tag, send, verify
from rela_zoo.hub.publish._signed_state import check_before_signing
from rela_zoo.hub.publish._to_folder import FolderPlace
from rela_zoo.prior import with_cost
from rela_zoo.remote import Kind, client, read_key

_log = logger(__name__)
_TAGS = 3  # of the newest tags, how many are compared with a version that has none

_Pairs = Iterable[str] | Mapping[str, str | os.PathLike[str]]


def publish(
    repo: str,
    *,
    entry: str | os.PathLike[str] | None = None,
    timm: str | None = None,
    module: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    upload_weights: bool = True,
    embeddings: _Pairs = (),
    transports: _Pairs = (),
    labels: _Pairs = (),
    embeddings_repo: str | None = None,
    details: Details | None = None,
    notes: str = "",
    measured: Sequence[Measurement] = (),
    tag: str | None = None,
    sign: Sequence[str | os.PathLike[str]] = (),
    pr: bool = False,
    private: bool = False,
    replace: bool = False,
    replace_card: bool = False,
    dry_run: bool = False,
    to: str | os.PathLike[str] | None = None,
    verify_by: Literal["download", "digests"] = "download",
    confirm: Callable[[Plan], bool] | None = None,
) -> Publication:
    """Publish a prior on the Hub, with any of weights, embeddings and transports.

    The data-set repository is written first, then the model repository, which names it at its full commit; each in one
    atomic commit. What comes back is compared with what was sent, and the version is tagged. If it is interrupted,
    `pull` never accepts half a version, and the same call again does what is left. It sends nothing when nothing
    changed.

    Args:
        repo: model repository, `org/name`; made when missing.
        entry: the prior, one of this and the next three: a YAML entry or a registered name (of a packaged one
            embeddings and transports alone are published, in the data-set repository `repo`).
        timm: a timm model, `arch.tag`, or `arch` with `weights`.
        module: `module:callable`.
        checkpoint: one of solo-learn or of the built-in host.
        weights: a safetensors file for `entry`, `timm` or `module`.
        upload_weights: False publishes everything but the weight file.
        embeddings: data set → folder written by `rela-zoo embed`.
        transports: data set → file written by `rela-zoo transport fit`: the target transport, or one to another prior;
            as `NAME=FILE`, a data set may have one and several.
        labels: data set → CSV, JSONL or Parquet with `id` and any of `split` and `label`, published beside the rows:
            whoever names the file says that they may be.
        embeddings_repo: data-set repository; `<repo>-embeddings` by default.
        details: facts that go over those of the source.
        notes: Markdown for the model card.
        measured: numbers for the model card, see `rela_zoo.hub.cards.read_measured`.
        tag: of the version; the next `vN` by default.
        sign: files with private keys, by `rela-zoo keygen`: each signs the manifests. Without any, a changed version
            has no signature, even if the one before it had.
        pr: open pull requests instead of writing to main.
        private: make new repositories private; existing ones must be so.
        replace: drop what was published before and is not given now.
        replace_card: overwrite cards that were edited on the Hub.
        dry_run: send nothing.
        to: a folder, instead of the Hub: others read it with `RELA_ZOO_MIRROR`, or `rela-zoo pull --from`.
        verify_by: `download` fetches everything back, `digests` compares the Hub's own.
        confirm: sees the plan; False stops.

    Returns:
        Commits, tag and addresses.

    Raises:
        SignatureError: a key can't be read, or what would be kept was not signed by it.
        HubError: the Hub refuses or is out of reach.
        RegistryError, WeightsError, EmbeddingsError, TransportError: what is given is not fit to be published.

    Examples:
        >>> from rela_zoo import publish
        >>> plan = publish("org/mine", entry="mine.yaml", embeddings={"photos": "embeddings"}, dry_run=True).plan
        >>> [change.wanted.repo for change in plan.changes]
        ['org/mine-embeddings', 'org/mine']
        >>> done = publish("org/mine", entry="mine.yaml", embeddings={"photos": "embeddings"})
        >>> done.name, done.tag
        ('hf://org/mine@...', 'v1')
    """
    details = details or Details()
    _check_repo_names(repo, embeddings_repo or repo)
    choice = PriorChoice(entry, timm, module, checkpoint, weights)
    choice.check()
    keys = [read_key(path) for path in sign]
    if to is not None and (pr or private):
        raise RegistryError("a folder knows neither proposals nor rights", expected="no --pr and no --private", got=to)
    if not dry_run and to is None:  # before anything is read and hashed
        check_token(client(), repo.split("/")[0], pr)
    with work_folder() as work:
        source = choice.read(details, work)
        source = replace_in(source, spec=with_cost(source.spec))
        _check_measured(measured, source.spec.id)
        # Of a prior that everybody has, rows alone are published: in one data-set repository.
        dataset_repo = embeddings_repo or (repo if source.packaged else f"{repo}-embeddings")
        if source.packaged:
            repo = dataset_repo
            _check_rows_only(source.spec.id, (*parse_named(embeddings), *named_pairs(transports)), measured, notes)
        if source.weights is not None and upload_weights:
            check_may_publish(source.spec, details.redistribute)
        embedded = {name: check_embeddings(name, path, source) for name, path in parse_named(embeddings).items()}
        columns = check_columns(parse_named(labels), embedded)
        fitted, between = check_transports(transports, source, embedded)
        given = Contribution(
            repo=repo,
            dataset_repo=dataset_repo,
            source=source,
            embedded=embedded,
            transports=fitted,
            between=between,
            columns=columns,
            notes=notes,
            measured=tuple(measured),
            source_datasets=details.source_datasets,
            upload_weights=upload_weights,
            replace=replace,
            keys=keys,
        )
        publisher = _Publisher(client(), given, work, pr, private, replace_card, full=verify_by == "download")
        if to is not None:
            publisher.place = FolderPlace(Path(to).expanduser())
        plan = publisher.plan()
        check_tag(repo, tag, plan.model.remote.tags, plan.model.remote.commit if not plan.anything else None)
        if dry_run:
            return Publication(repo, None, None, dataset_repo if embedded else None, None, False, [], plan)
        if plan.anything and confirm is not None and not confirm(plan):
            raise HubError("stopped before anything was sent", fix="the same command again, or with --yes")
        return publisher.carry_out(plan, tag)


def _check_rows_only(prior: str, artefacts: Sequence[object], measured: Sequence[Measurement], notes: str) -> None:
    if not artefacts:
        raise RegistryError(
            f"{prior!r} is the name of a prior of the registry: everybody who has rela-zoo has it already",
            expected="embeddings by it, or transports, which anybody may publish; or a prior under a name of its own",
            got="no embeddings", fix="--embeddings NAME=DIR, --transport NAME=FILE, or --id NAME",
        )  # fmt: skip
    if measured or notes:
        raise RegistryError(
            "of a prior of the registry embeddings alone are published, without a model card",
            expected="no --notes and no --results", fix="leave them out",
        )  # fmt: skip


def _check_measured(measured: Sequence[Measurement], prior: str) -> None:
    strangers = sorted({one.prior for one in measured} - {prior})
    if strangers:
        raise RegistryError(
            "these results are not of the prior that is published", expected=f"prior: {prior}, in each measurement",
            got=", ".join(strangers), fix="leave the others out of --results, or correct `prior`",
        )  # fmt: skip


def _check_repo_names(*repos: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    for one in repos:
        try:
            validate_repo_id(one)
            if one.count("/") != 1:
                raise HFValidationError("a namespace is needed")
        except HFValidationError as error:
            raise RegistryError(
                f"{one!r} is no name of a repository", expected="org/name or user/name", got=str(error)
            ) from error


@dataclass
class _Publisher:
    """One call of `publish`, after everything on this machine was checked.

    Attributes:
        api: the client.
        given: what is to be published, and where.
        work: folder for files made here.
        pr, private, replace_card: as for `publish`.
        full: compare what comes back byte by byte.
        pulls: addresses of the pull requests opened.
        place: a folder, where it is not the Hub.
    """

    api: HfApi
    given: Contribution
    work: Path
    pr: bool
    private: bool
    replace_card: bool
    full: bool
    pulls: list[str] = field(default_factory=list)
    place: FolderPlace | None = None

    def _state(self, repo: str, kind: Kind, revision: str | None = None) -> RepoState:
        if self.place is not None:
            return self.place.state(repo, kind, revision)
        return read_state(self.api, repo, kind, revision)

    def _head(self, repo: str, kind: Kind) -> RepoState:
        """The version in force, of which things are kept: where the next one is signed, this one has to be."""
        state = self._state(repo, kind)
        if self.given.keys and not self.given.replace:
            check_before_signing(state, self.given.keys)
        return state

    def plan(self) -> Plan:
        """Compare with the Hub."""
        if self.given.source.packaged:
            rows = self._head(self.given.dataset_repo, "dataset")
            self._refuse_missing(rows)
            change = compare_repo(embeddings_repository(self.given, rows, self.work), rows, self.replace_card)
            return Plan(None, change, self._private(rows), self.pr)
        model = self._head(self.given.repo, "model")
        before = read_published_entry(model)
        of_rows = self.given.dataset_repo
        self.given = given = keep_published(
            self.given, before.spec if before else None, model.card,
            rows_card=lambda: self._state(of_rows, "dataset").card,
        )  # fmt: skip
        dataset = self._head(given.dataset_repo, "dataset") if given.embedded else None
        private = self._private(model, dataset)
        self._refuse_missing(model, dataset)
        rows_change = None
        if dataset is not None:
            rows_change = compare_repo(embeddings_repository(given, dataset, self.work), dataset, self.replace_card)
        commit = rows_change.remote.commit if rows_change and not rows_change.anything else None
        return Plan(rows_change, self._model_change(model, commit), private, self.pr)

    def _refuse_missing(self, *states: RepoState | None) -> None:
        for one in states:
            if one is not None and self.pr and one.commit is None:
                raise HubError(
                    f"there is no {one.kind} repository {one.repo} to propose changes to", expected="one that exists",
                    fix="leave out --pr to make it, or name one of yours: --embeddings-repo",
                )  # fmt: skip

    def _private(self, *states: RepoState | None) -> bool:
        there = [one for one in states if one is not None and one.commit is not None]
        public = [one.repo for one in there if not one.private]
        if self.private and public:
            raise HubError(
                f"{public[0]} is public", expected="a private repository, as --private says", got="a public one",
                fix="make it private in its settings on the Hub, or leave out --private",
            )  # fmt: skip
        # A new repository beside a private one would else show what the other hides.
        return self.private or any(one.private for one in there)

    def _model_change(self, state: RepoState, commit: str | None) -> RepoChange:
        return compare_repo(model_repository(self.given, state, commit, self.work), state, self.replace_card)

    def carry_out(self, plan: Plan, tag: str | None) -> Publication:
        """Send what has to be sent, in order, then tag it."""
        given, dataset_commit = self.given, None
        if self.place is None:
            check_cards(plan.changes)
        if plan.dataset is not None:
            dataset_commit = self._send(plan.dataset, plan.private)
            if plan.dataset.anything:
                # The entry names the commit that was just made.
                plan.model = self._model_change(plan.model.remote, dataset_commit)
        commit = self._send(plan.model, plan.private)
        rows_only = given.source.packaged
        return Publication(
            repo=given.repo,
            commit=commit,
            tag=None if self.pr else self._tag(plan.model, commit, tag),
            dataset_repo=given.dataset_repo if plan.dataset or rows_only else None,
            dataset_commit=commit if rows_only else dataset_commit,
            listing=index_listing(given, commit) if rows_only else None,
            changed=plan.anything,
            pulls=self.pulls,
            plan=plan,
        )

    def _send(self, change: RepoChange, private: bool) -> str:
        """Send one repository; its commit."""
        repo = change.wanted.repo
        if not change.anything:
            assert change.remote.commit is not None  # there is nothing to do only where there is one
            _log.info("%s: nothing changed", repo)
            return change.remote.commit
        if self.pr and (proposal := self._proposed(change)):
            _log.info("%s: proposed already, %s", repo, proposal[0])
            return proposal[1]
        if self.place is not None:
            return self.place.send(change)
        first = change.remote.manifest is None
        message = f"{'Publish' if first else 'Update'} {self.given.source.spec.id} with rela-zoo"
        commit, pull = send(self.api, change, message, pr=self.pr, private=private)
        if pull:
            self.pulls.append(pull)
        _log.info("%s: %d files in commit %s", repo, len(change.send), commit)
        verify(self.api, change, commit, self.work, full=self.full)
        return commit

    def _proposed(self, change: RepoChange) -> tuple[str, str] | None:
        """An earlier pull request with exactly these files: its reference and commit."""
        for ref, commit in change.remote.pulls.items():
            there = self._state(change.wanted.repo, change.wanted.kind, revision=commit)
            if not compare_repo(change.wanted, there, replace_card=True).anything:
                return ref, commit
        return None

    def _tag(self, change: RepoChange, commit: str, tag: str | None) -> str:
        """The tag of this version: one that it has, one of a commit that differs only in its card, or a new one."""
        repo, kind, tags = self.given.repo, change.wanted.kind, change.remote.tags
        if tag is not None and tags.get(tag) == commit:
            return tag
        known = next((name for name, at in tags.items() if at == commit), None)
        if tag is None and known is not None:
            return known
        if tag is None and (change.card_only or not change.anything):
            now = self._state(repo, kind, revision=commit).version
            for name, at in sorted(tags.items(), key=lambda one: (len(one[0]), one[0]), reverse=True)[:_TAGS]:
                if self._state(repo, kind, revision=at).version == now:
                    return name
        if self.place is not None:
            return self.place.tag(repo, kind, commit, tag, tags)
        if not change.anything:  # an earlier run did not come to this
            verify(self.api, change, commit, self.work, full=self.full)
        made = put_tag(self.api, repo, commit, tag, tags, kind)
        _log.info("%s: tagged %s", repo, made)
        return made
