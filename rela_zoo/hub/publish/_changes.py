"""What a publication would change on the Hub, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rela_zoo.hub.cards import with_data_files
from rela_zoo.hub.publish._repo_state import RepoState
from rela_zoo.hub.publish._uploads import CARD, DesiredRepo, Upload, is_edited, is_there
from rela_zoo.remote import MANIFEST, SIGNATURE


@dataclass
class RepoChange:
    """What would be done to one repository.

    Attributes:
        wanted: how it should be.
        remote: how it is.
        send: files that are not there as wanted.
        delete: files of the version in force that are no more.
        card_kept: a person has edited the card on the Hub, so its words stay.
    """

    wanted: DesiredRepo
    remote: RepoState
    send: list[Upload]
    delete: list[str]
    card_kept: bool

    @property
    def create(self) -> bool:
        """Whether the repository has to be made."""
        return self.remote.commit is None

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return self.create or bool(self.send or self.delete)

    @property
    def card_only(self) -> bool:
        """Whether the files that make a version are as they were."""
        return not self.create and not self.delete and all(one.path == CARD for one in self.send)

    @property
    def unsigns(self) -> bool:
        """Whether a signed version gives way to one that nobody has signed."""
        return SIGNATURE in self.delete

    @property
    def bytes(self) -> int:
        """Size of what would be sent."""
        return sum(one.size for one in self.send)


def compare_repo(wanted: DesiredRepo, remote: RepoState, replace_card: bool = False) -> RepoChange:
    """What has to be sent so that a repository becomes as wanted.

    Args:
        wanted: how it should be.
        remote: how it is.
        replace_card: overwrite a card that was edited by hand, too.
    """
    files = {one.path: one for one in wanted.all_files()}
    missing = [one for one in files.values() if not is_there(one, remote.tree)]
    # A card is a person's work where there was a version of ours and the card is not as it was written.
    edited = remote.card is not None and remote.manifest is not None and is_edited(remote.card)
    card_kept = edited and not replace_card and any(one.path == CARD for one in missing)
    send = [one for one in missing if not (one.path == CARD and card_kept)]
    if card_kept and remote.card is not None:
        card = with_data_files(remote.card, wanted.card)
        send += [Upload(CARD, card.encode())] if card != remote.card else []
    old = remote.manifest.files if remote.manifest else {}
    delete = {path for path in old if path in remote.tree and path not in files and path not in wanted.kept}
    if SIGNATURE in remote.tree and SIGNATURE not in files and any(one.path == MANIFEST for one in missing):
        delete.add(SIGNATURE)  # of a manifest that is replaced
    return RepoChange(wanted, remote, send, sorted(delete), card_kept)


@dataclass
class Plan:
    """What would be sent: the embeddings' repository (if any are given) and the prior's.

    Attributes:
        dataset: change of the data-set repository.
        model: change of the model repository; of the data-set repository where there is no other.
        private: of repositories that have to be made.
        pr: as pull requests.
    """

    dataset: RepoChange | None
    model: RepoChange
    private: bool
    pr: bool

    @property
    def changes(self) -> list[RepoChange]:
        """In the order in which they are sent."""
        return [*([self.dataset] if self.dataset else []), self.model]

    @property
    def anything(self) -> bool:
        """Whether there is anything to send."""
        return any(change.anything for change in self.changes)


@dataclass
class Publication:
    """What was done.

    Attributes:
        repo: of the prior.
        commit: its full commit; None in a dry run.
        tag: of that commit, if any.
        dataset_repo, dataset_commit: of the embeddings, if any were given.
        changed: whether anything was sent.
        pulls: addresses of the pull requests opened.
        plan: what was compared.
        listing: of embeddings of a packaged prior, what the index needs under `embeddings` for others to find them.
    """

    repo: str
    commit: str | None
    tag: str | None
    dataset_repo: str | None
    dataset_commit: str | None
    changed: bool
    pulls: list[str]
    plan: Plan
    listing: dict[str, Any] | None = None

    @property
    def name(self) -> str | None:
        """What others write as `rela.prior`; for embeddings of a packaged prior, which has its name, their address."""
        return f"hf://{self.repo}@{self.commit}" if self.commit else None
