"""`publish`: from a prior on this machine to a version that others pull by name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi

from rela_zoo.errors import HubError, RegistryError
from rela_zoo.hub.cards import Measurement
from rela_zoo.hub.publish import _repositories as content
from rela_zoo.hub.publish._check_artefacts import check_embeddings, check_transport, named
from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._local_prior import prepare, read_source
from rela_zoo.hub.publish._plan import Plan, Publication
from rela_zoo.hub.publish._publishable_weights import check_may_publish
from rela_zoo.hub.publish._repo_state import Change, Remote, compare, look
from rela_zoo.hub.publish._send import check_tag, check_token, put_tag, send, verify
from rela_zoo.hub.publish._uploads import CARD, Wanted
from rela_zoo.remote import client

__all__ = ["Plan", "Publication", "prepare", "publish"]

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
    embeddings_repo: str | None = None,
    details: Details | None = None,
    notes: str = "",
    measured: Sequence[Measurement] = (),
    tag: str | None = None,
    pr: bool = False,
    private: bool = False,
    replace: bool = False,
    replace_card: bool = False,
    dry_run: bool = False,
    verify_by: Literal["download", "digests"] = "download",
    confirm: Callable[[Plan], bool] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Publication:
    """Publish a prior on the Hub, with any of weights, embeddings and transports.

    The data-set repository is written first, then the model repository, which names it at its full commit; each in one
    atomic commit. What comes back is compared with what was sent, and the version is tagged. Whatever interrupts it,
    there is no version that `pull` would accept and that is not whole; the same call again does what is left, and
    nothing when nothing changed.

    Args:
        repo: model repository, `org/name`; made when missing.
        entry, timm, module, checkpoint: the prior, one of these: a YAML entry or a registered name; a timm model
            (`arch.tag`, or `arch` with `weights`); `module:callable`; a checkpoint of solo-learn or of the
            built-in host.
        weights: a safetensors file for `entry`, `timm` or `module`.
        upload_weights: False publishes everything but the weight file.
        embeddings: data set → folder written by `rela-zoo embed`.
        transports: data set → file written by `rela-zoo transport fit`.
        embeddings_repo: data-set repository; `<repo>-embeddings` by default.
        details: facts that go over those of the source.
        notes: Markdown for the model card.
        measured: numbers for the model card, see `rela_zoo.hub.cards.read_measured`.
        tag: of the version; the next `vN` by default.
        pr: open pull requests instead of writing to main.
        private: make new repositories private; existing ones must be so.
        replace: drop what was published before and is not given now.
        replace_card: overwrite cards that were edited on the Hub.
        dry_run: send nothing.
        verify_by: `download` fetches everything back, `digests` compares the Hub's own.
        confirm: sees the plan; False stops.
        say: for lines about progress.

    Returns:
        commits, tag and addresses.

    Raises:
        HubError: the Hub refuses or is out of reach.
        RegistryError, WeightsError, EmbeddingsError, TransportError: what is given is not fit to be published.
    """
    details = details or Details()
    dataset_repo = embeddings_repo or f"{repo}-embeddings"
    _check_ids(repo, dataset_repo)
    with tempfile.TemporaryDirectory(prefix="rela_zoo_publish_") as folder:
        work = Path(folder)
        source = read_source(entry, timm, module, checkpoint, weights, details, work)
        if source.weights is not None and upload_weights:
            check_may_publish(source.spec, details.redistribute)
        embedded = {name: check_embeddings(name, path, source) for name, path in named(embeddings).items()}
        fitted = {
            name: (check_transport(name, path, source.spec, embedded[name].table if name in embedded else None), path)
            for name, path in named(transports).items()
        }
        given = content.Given(
            source, embedded, fitted, notes, tuple(measured), details.source_datasets, upload_weights=upload_weights
        )  # fmt: skip
        run = _Run(client(), given, repo, dataset_repo, work, pr, private, replace, replace_card)
        plan = run.plan()
        check_tag(repo, tag, plan.model.remote.tags, plan.model.remote.commit if not plan.anything else None)
        if dry_run:
            return Publication(repo, None, None, dataset_repo if embedded else None, None, False, [], plan)
        check_token(run.api, repo.split("/")[0], pr)
        if plan.anything and confirm is not None and not confirm(plan):
            raise HubError("stopped before anything was sent", fix="the same command again, or with --yes")
        return run.go(plan, tag, verify_by == "download", say)


def _without_card(remote: Remote) -> dict[str, tuple[str, int]]:
    """What makes a version."""
    return {path: one for path, one in remote.tree.items() if path not in (CARD, ".gitattributes")}


def _check_ids(repo: str, dataset_repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    for one in (repo, dataset_repo):
        try:
            validate_repo_id(one)
            if one.count("/") != 1:
                raise HFValidationError("a namespace is needed")
        except HFValidationError as error:
            raise RegistryError(
                f"{one!r} is no name of a repository", expected="org/name or user/name", got=str(error)
            ) from error


@dataclass
class _Run:
    """One call of `publish`, after everything on this machine was checked."""

    api: HfApi
    given: content.Given
    repo: str
    dataset_repo: str
    work: Path
    pr: bool
    private: bool
    replace: bool
    replace_card: bool

    def plan(self) -> Plan:
        """Compare with the Hub."""
        dataset = look(self.api, self.dataset_repo, "dataset") if self.given.embedded else None
        model = look(self.api, self.repo, "model")
        private = self._private(model, dataset)
        for one in (model, dataset):
            if one is not None and self.pr and one.commit is None:
                raise HubError(
                    f"there is no {one.kind} repository {one.repo} to propose changes to", expected="one that exists",
                    fix="leave out --pr to make it, or name one of yours: --embeddings-repo",
                )  # fmt: skip
        change = compare(self._dataset(dataset), dataset, self.replace_card) if dataset else None
        commit = change.remote.commit if change and not change.anything else None
        return Plan(change, compare(self._model(model, commit), model, self.replace_card), private, self.pr)

    def _private(self, *remotes: Remote | None) -> bool:
        there = [one for one in remotes if one is not None and one.commit is not None]
        public = [one.repo for one in there if not one.private]
        if self.private and public:
            raise HubError(
                f"{public[0]} is public", expected="a private repository, as --private says", got="a public one",
                fix="make it private in its settings on the Hub, or leave out --private",
            )  # fmt: skip
        # A new repository beside a private one would else show what the other hides.
        return self.private or any(one.private for one in there)

    def _dataset(self, remote: Remote) -> Wanted:
        return content.embeddings_repository(self.given, remote, self.repo, self.replace)

    def _model(self, remote: Remote, commit: str | None) -> Wanted:
        old = content.published_entry(remote)
        held = content.artefacts(self.given, old, self.dataset_repo, commit, self.replace)
        return content.model_repository(
            self.given, remote, old, held, self.dataset_repo, self.work, self.replace
        )  # fmt: skip

    def go(self, plan: Plan, tag: str | None, full: bool, say: Callable[[str], None]) -> Publication:
        """Send what is to be sent, in order."""
        pulls: list[str] = []
        dataset_commit = None
        if plan.dataset is not None:
            dataset_commit = self._one(plan.dataset, plan.private, full, pulls, say)
            if plan.dataset.anything:
                # The entry names the commit that was just made.
                plan.model = compare(
                    self._model(plan.model.remote, dataset_commit), plan.model.remote, self.replace_card
                )
        commit = self._one(plan.model, plan.private, full, pulls, say)
        mine = None if self.pr else self._tag(plan.model, commit, tag, full, say)
        return Publication(
            self.repo, commit, mine, self.dataset_repo if plan.dataset else None, dataset_commit,
            plan.anything, pulls, plan,
        )  # fmt: skip

    def _tag(self, change: Change, commit: str, tag: str | None, full: bool, say: Callable[[str], None]) -> str:
        """The tag of this version: one that it has, one of a commit that differs only in its card, or a new one."""
        tags = change.remote.tags
        if tag is not None and tags.get(tag) == commit:
            return tag
        known = next((name for name, at in tags.items() if at == commit), None)
        if tag is None and known is not None:
            return known
        if tag is None and (change.card_only or not change.anything):
            now = _without_card(look(self.api, self.repo, "model", revision=commit))
            for name, at in sorted(tags.items(), key=lambda one: (len(one[0]), one[0]), reverse=True)[:_TAGS]:
                if _without_card(look(self.api, self.repo, "model", revision=at)) == now:
                    return name
        if not change.anything:  # an earlier run did not come to this
            verify(self.api, change, commit, self.work, full=full, say=say)
        made = put_tag(self.api, self.repo, commit, tag, tags)
        say(f"{self.repo}: tagged {made}")
        return made

    def _one(
        self, change: Change, private: bool, full: bool, pulls: list[str], say: Callable[[str], None]
    ) -> str:  # fmt: skip
        """One repository; its commit."""
        repo = change.wanted.repo
        if not change.anything:
            assert change.remote.commit is not None  # there is nothing to do only where there is one
            say(f"{repo}: nothing changed")
            return change.remote.commit
        if self.pr and (open_one := self._proposed(change)):
            say(f"{repo}: proposed already, {open_one[0]}")
            return open_one[1]
        first = change.remote.manifest is None
        message = f"{'Publish' if first else 'Update'} {self.given.source.spec.id} with rela-zoo"
        commit, pull = send(self.api, change, message, pr=self.pr, private=private)
        if pull:
            pulls.append(pull)
        say(f"{repo}: {len(change.send)} files in commit {commit}")
        verify(self.api, change, commit, self.work, full=full, say=say)
        return commit

    def _proposed(self, change: Change) -> tuple[str, str] | None:
        """An earlier pull request with exactly these files."""
        for ref, commit in change.remote.pulls.items():
            there = look(self.api, change.wanted.repo, change.wanted.kind, revision=commit)
            if not compare(change.wanted, there, replace_card=True).anything:
                return ref, commit
        return None
