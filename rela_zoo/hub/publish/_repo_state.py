"""What a repository of the Hub holds now: its head, its files by the Hub's own digests, its manifest and card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from rela_zoo.errors import HubError
from rela_zoo.hub.publish._uploads import CARD, Upload, Wanted, edited, same
from rela_zoo.remote import MANIFEST, Kind, Manifest, fetch_file, translated

# Small text files of a repository; anything longer is none of ours.
_MAX_TEXT_BYTES = 64 << 20
_PULLS = 5  # open proposals that are compared with what would be proposed


@dataclass
class Remote:
    """A repository at one commit.

    Attributes:
        repo, kind: which.
        commit: full id; None where there is no such repository.
        private: as the Hub says.
        tree: path → digest (sha256 of a large file, git's name of a small one) and size.
        manifest: of the version in force, None if there is none, or none that can be read.
        card: text of README.md.
        tags: name → commit.
        pulls: reference of a pull request → its commit, the newest first.
    """

    repo: str
    kind: Kind
    commit: str | None = None
    private: bool = False
    tree: dict[str, tuple[str, int]] = field(default_factory=dict)
    manifest: Manifest | None = None
    card: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)


def look(api: HfApi, repo: str, kind: Kind, revision: str | None = None) -> Remote:
    """Read the state of a repository; one that is not there, or not visible with this token, has no commit.

    Raises:
        HubError: the Hub can't be asked.
    """
    with translated(f"it can't be seen what {repo} holds already", repo=repo, revision=revision):
        try:
            info = api.repo_info(repo, repo_type=kind, revision=revision)
        except RepositoryNotFoundError:
            return Remote(repo, kind)
        assert info.sha is not None
        found = Remote(repo, kind, info.sha, bool(info.private))
        for entry in api.list_repo_tree(repo, recursive=True, revision=info.sha, repo_type=kind):
            if isinstance(entry, RepoFile):
                found.tree[entry.path] = (entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)
        if revision is None:
            refs = api.list_repo_refs(repo, repo_type=kind, include_pull_requests=True)
            found.tags = {one.name: one.target_commit for one in refs.tags}
            pulls = {one.ref: one.target_commit for one in refs.pull_requests or []}
            found.pulls = dict(sorted(pulls.items(), key=lambda one: -int(one[0].rpartition("/")[2]))[:_PULLS])
    if MANIFEST in found.tree:
        try:
            found.manifest = Manifest.parse(fetch(found, MANIFEST).read_bytes())
        except HubError:
            found.manifest = None  # somebody else's file, or an old format: replaced as a whole
    if CARD in found.tree:
        found.card = fetch(found, CARD).read_text(encoding="utf-8", errors="replace")
    return found


def fetch(remote: Remote, path: str) -> Path:
    """One small file of a repository at its commit, checked against the Hub's own digest.

    Raises:
        HubError: too large, out of reach, or other bytes.
    """
    return fetch_file(remote.repo, path, remote.commit, remote.kind, limit=_MAX_TEXT_BYTES)


@dataclass
class Change:
    """What would be done to one repository.

    Attributes:
        wanted: how it is to be.
        remote: how it is.
        send: files that are not there as wanted.
        delete: files of the version in force that are no more.
        card_kept: a person has edited the card on the Hub, so it stays.
    """

    wanted: Wanted
    remote: Remote
    send: list[Upload]
    delete: list[str]
    card_kept: bool

    @property
    def create(self) -> bool:
        """Whether the repository is to be made."""
        return self.remote.commit is None

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return self.create or bool(self.send or self.delete)

    @property
    def card_only(self) -> bool:
        """Whether the files that make a version are as they were."""
        return not self.create and not self.delete and all(one.path == CARD for one in self.send)


def compare(wanted: Wanted, remote: Remote, replace_card: bool = False) -> Change:
    """What is to be sent so that the repository becomes as wanted.

    Args:
        wanted: how it is to be.
        remote: how it is.
        replace_card: overwrite also a card that was edited by hand.
    """
    files = {one.path: one for one in wanted.all_files()}
    there = same(files, remote.tree)
    card_kept = remote.card is not None and not there[CARD] and _somebodys(remote) and not replace_card
    send = [one for path, one in files.items() if not there[path] and not (path == CARD and card_kept)]
    old = remote.manifest.files if remote.manifest else {}
    delete = sorted(path for path in old if path in remote.tree and path not in files and path not in wanted.kept)
    return Change(wanted, remote, send, delete, card_kept)


def _somebodys(remote: Remote) -> bool:
    """Whether the card is a person's work: there was a version of ours, and the card is not as we wrote it."""
    return remote.card is not None and remote.manifest is not None and edited(remote.card)
