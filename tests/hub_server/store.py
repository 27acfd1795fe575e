"""What the server keeps: repositories with commits, refs and large files; users by token."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field

import yaml

READ, WRITE = "read", "write"


class HubError(Exception):
    """An answer other than success: status, `X-Error-Code`, message."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Token:
    """Who a token belongs to, and what it allows: `read`, or `write` as well."""

    user: str
    role: str
    orgs: tuple[str, ...] = ()
    gated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Blob:
    """One file of a commit; `large` ones are redirected to the CDN and have a sha256 as ETag."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """git's name of the blob (of the pointer for a large file)."""
        content = self.data
        if self.large:
            head = "version https://git-lfs.github.com/spec/v1"
            content = f"{head}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    files: dict[str, Blob]
    title: str


@dataclass
class Repo:
    id: str
    kind: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob], title: str, ref: str = "main", parent: str | None = None) -> Commit:
        """Add a commit that holds exactly `files` and move `ref` (a branch, or `refs/pr/N`) to it."""
        parent = parent or self.branches.get("main")
        tree = "".join(f"{path} {files[path].oid}\n" for path in sorted(files))
        oid = hashlib.sha1(f"{self.kind}/{self.id}|{parent}|{title}|{len(self.commits)}|{tree}".encode()).hexdigest()
        made = self.commits[oid] = Commit(oid, parent, dict(files), title)
        if ref.startswith("refs/pr/"):
            self.pulls[ref] = oid
        else:
            self.branches[ref] = oid
        return made

    def resolve(self, revision: str | None) -> Commit:
        """A commit by branch, tag, pull request or full id."""
        name = revision or "main"
        oid = self.branches.get(name) or self.tags.get(name) or self.pulls.get(name) or name
        if oid not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {name}")
        return self.commits[oid]

    @property
    def head(self) -> Commit:
        return self.resolve("main")

    def card(self, commit: Commit) -> dict:
        """The YAML front matter of README.md, as the Hub reads it."""
        readme = commit.files.get("README.md")
        text = readme.data.decode("utf-8", "replace") if readme else ""
        if not text.startswith("---\n") or "\n---" not in text[4:]:
            return {}
        data = yaml.safe_load(text[4:].split("\n---", 1)[0])
        return data if isinstance(data, dict) else {}

    def labels(self, commit: Commit) -> list[str]:
        """What a filter matches: the card's tags, its library, licence and data sets."""
        card = self.card(commit)
        tags = [str(one) for one in card.get("tags") or []]
        tags += [str(card["library_name"])] if card.get("library_name") else []
        tags += [f"license:{card['license']}"] if card.get("license") else []
        tags += [f"dataset:{one}" for one in card.get("datasets") or []]
        return tags


class Store:
    """Everything the server holds. A lock makes each change one step, as on the Hub."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.tokens: dict[str, Token] = {
            "hf_writer": Token("writer", WRITE, ("org", "rela-zoo")),
            "hf_other_writer": Token("other-writer", WRITE, ("org", "rela-zoo")),
            "hf_reader": Token("reader", READ, ("org",)),
            "hf_outsider": Token("outsider", WRITE),
        }

    def create(self, repo_id: str, kind: str = "model", *, private: bool = False, gated: bool = False) -> Repo:
        """A new repository with the first commit that the Hub makes itself."""
        with self.lock:
            if (kind, repo_id) in self.repos:
                raise HubError(409, None, "You already created this repo")
            repo = self.repos[kind, repo_id] = Repo(repo_id, kind, private, gated)
            repo.commit({".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, "initial commit")
            return repo

    def add(self, repo_id: str, files: dict[str, bytes], kind: str = "model", **options: bool) -> str:
        """Put files into a repository (made when missing) in one commit on main, past the client; its id."""
        with self.lock:
            repo = self.repos.get((kind, repo_id)) or self.create(repo_id, kind, **options)
            blobs = {path: Blob(data, is_large(path, len(data))) for path, data in files.items()}
            return repo.commit({**repo.head.files, **blobs}, "add").oid

    def visible(self, kind: str, repo_id: str, token: Token | None) -> Repo:
        """The repository for a reader; a private one looks as if it did not exist."""
        repo = self.repos.get((kind, repo_id))
        member = token is not None and repo_id.split("/")[0] in (token.user, *token.orgs)
        if repo is None or (repo.private and not member):
            status = 404 if token else 401
            raise HubError(status, "RepoNotFound", "Repository not found" if token else "Invalid username or password.")
        return repo

    def readable(self, kind: str, repo_id: str, token: Token | None) -> Repo:
        """The repository for somebody who wants its files; a gated one needs to have been granted."""
        repo = self.visible(kind, repo_id, token)
        if repo.gated and not (
            token and (repo_id in token.gated or repo_id.split("/")[0] in (token.user, *token.orgs))
        ):
            who = "Your request to access" if token else "You must have access to it and be authenticated to access"
            raise HubError(403 if token else 401, "GatedRepo", f"Access to {repo_id} is restricted. {who} it.")
        return repo

    def writable(self, kind: str, repo_id: str, token: Token | None) -> Repo:
        repo = self.visible(kind, repo_id, token)
        self.may_write(repo_id, token)
        return repo

    def may_write(self, repo_id: str, token: Token | None) -> None:
        """Refuse a missing or read-only token, and a namespace of others."""
        if token is None:
            raise HubError(401, None, "Invalid username or password.")
        if token.role != WRITE or repo_id.split("/")[0] not in (token.user, *token.orgs):
            raise HubError(403, None, f"You don't have the rights to write to {repo_id}")


def is_large(path: str, size: int) -> bool:
    """Which files go to large file storage: by extension as in .gitattributes, and by size."""
    return path.endswith((".safetensors", ".parquet", ".png", ".bin", ".jsonl")) or size > 10 * 1024 * 1024
