"""What a repository of the Hub holds now: its head, its files by the Hub's own digests, its manifest and card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from rela_zoo.errors import HubError
from rela_zoo.hub.publish._uploads import CARD
from rela_zoo.remote import MANIFEST, Kind, Manifest, fetch_unsigned, translated

# Small text files of a repository; anything longer is none of ours.
_MAX_TEXT_BYTES = 64 << 20
_PULLS = 5  # open proposals that are compared with what would be proposed


@dataclass
class RepoState:
    """A repository at one commit.

    Attributes:
        repo, kind: which.
        commit: full id; None where there is no such repository.
        private: as the Hub says.
        tree: path → digest (sha256 of a large file, git's name of a small one) and size.
        manifest: of the version in force; None if there is none that can be read.
        card: text of README.md.
        tags: name → commit.
        pulls: reference of a pull request → its commit, newest first.
        folder: of this commit, in a mirror; None on the Hub.
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
    folder: Path | None = None

    @property
    def version(self) -> dict[str, tuple[str, int]]:
        """The part of the tree that makes a version: all but the card."""
        return {path: one for path, one in self.tree.items() if path not in (CARD, ".gitattributes")}


def read_state(api: HfApi, repo: str, kind: Kind, revision: str | None = None) -> RepoState:
    """Read the state of a repository; one that is not there, or not visible with this token, has no commit.

    Raises:
        HubError: the Hub can't be asked.
    """
    with translated(f"it can't be seen what {repo} holds already", repo=repo, revision=revision, kind=kind):
        try:
            info = api.repo_info(repo, repo_type=kind, revision=revision)
        except RepositoryNotFoundError:
            return RepoState(repo, kind)
        assert info.sha is not None
        found = RepoState(repo, kind, info.sha, bool(info.private))
        for entry in api.list_repo_tree(repo, recursive=True, revision=info.sha, repo_type=kind):
            if isinstance(entry, RepoFile):
                found.tree[entry.path] = (entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)
        if revision is None:
            refs = api.list_repo_refs(repo, repo_type=kind, include_pull_requests=True)
            found.tags = {one.name: one.target_commit for one in refs.tags}
            pulls = {one.ref: one.target_commit for one in refs.pull_requests or []}
            found.pulls = dict(sorted(pulls.items(), key=lambda one: -int(one[0].rpartition("/")[2]))[:_PULLS])
    read_texts(found)
    return found


def read_texts(found: RepoState) -> None:
    """Manifest and card of a state with a tree, as far as they can be read.

    Raises:
        HubError: the card can't be had.
    """
    if MANIFEST in found.tree:
        try:
            found.manifest = Manifest.parse(fetch_text(found, MANIFEST).read_bytes())
        except HubError:
            found.manifest = None  # somebody else's file, or an old format: replaced as a whole
    if CARD in found.tree:
        found.card = fetch_text(found, CARD).read_text(encoding="utf-8", errors="replace")


def fetch_text(state: RepoState, path: str) -> Path:
    """One small file of a repository at its commit, on the Hub checked against its own digest.

    Raises:
        HubError: too large, out of reach, or other bytes.
    """
    if state.folder is not None:
        return state.folder / path
    return fetch_unsigned(state.repo, path, state.commit, state.kind, limit=_MAX_TEXT_BYTES)
