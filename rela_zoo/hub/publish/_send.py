"""Sending: one atomic commit a repository, what comes back compared with what was sent, then the tag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    get_token,
    hf_hub_download,
)

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.log import logger
from rela_zoo.errors import HubError
from rela_zoo.hub.publish._changes import RepoChange
from rela_zoo.hub.publish._repo_state import read_state
from rela_zoo.hub.publish._uploads import CARD
from rela_zoo.remote import Kind, translated, with_retries

_log = logger(__name__)
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_AGAIN = "run the same command again: what has arrived is not sent twice"


def check_token(api: HfApi, namespace: str, pr: bool) -> None:
    """Refuse a missing or read-only token before anything is sent.

    Raises:
        HubError: no token, or one that can't write.
    """
    if not get_token():
        raise HubError(
            "publishing needs a token of the Hub, and there is none", expected="a token with write access",
            fix="hf auth login, or HF_TOKEN=… in the environment",
        )  # fmt: skip
    try:
        who = with_retries(api.whoami, "it can't be asked whose token this is")
    except HubError as error:
        if error.status != 401:
            raise
        raise HubError(
            "the Hub does not know this token: it was revoked, has expired, or is mistyped",
            expected="a token with write access", got="HTTP 401",
            fix="make one at https://huggingface.co/settings/tokens, then hf auth login (or HF_TOKEN=…)",
        ) from error  # fmt: skip
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise HubError(
            "the token can only read", expected="a token with write access", got=f"a read token of {who.get('name')}",
            fix="make one with write access at https://huggingface.co/settings/tokens, then hf auth login",
        )  # fmt: skip
    mine = {who.get("name"), *(one.get("name") for one in who.get("orgs") or [])}
    if not pr and namespace not in mine:
        raise HubError(
            f"{who.get('name')} can't write to {namespace}", expected=f"a name of {', '.join(sorted(map(str, mine)))}",
            got=namespace, fix="--repo NAMESPACE/NAME with one of these, or --pr to propose it to the owner",
        )  # fmt: skip


def check_cards(changes: Sequence[RepoChange]) -> None:
    """Ask the Hub whether it takes the cards, before a repository is made for them.

    Raises:
        HubError: it does not, and says why.
    """
    from huggingface_hub import RepoCard

    for change in changes:
        for one in change.send:
            if one.path != CARD or not isinstance(one.content, bytes):
                continue
            card = RepoCard(one.content.decode(), ignore_metadata_errors=False)
            try:
                with_retries(partial(card.validate, repo_type=change.wanted.kind), "the card can't be checked")
            except ValueError as error:
                raise HubError(
                    f"the Hub refuses the card of {change.wanted.repo}, and nothing was sent",
                    expected="front matter as the Hub asks for it", got=" ".join(str(error).split())[:400],
                    fix="correct the option that is named, such as --licence or --results",
                ) from error  # fmt: skip


@contextmanager
def _sending(change: RepoChange) -> Iterator[None]:
    """Errors of an upload, said in the terms of a publisher."""
    wanted = change.wanted
    try:
        with translated(f"the upload to {wanted.repo} did not succeed", repo=wanted.repo):
            yield
    except HubError as error:
        if error.__cause__ is None:
            raise
        if error.status in (409, 412):
            raise _overtaken(change) from error
        if error.status in (402, 403, 413, 507) or "quota" in str(error).lower() or "storage" in str(error).lower():
            raise HubError(
                f"the Hub refused the upload to {wanted.repo}, and no version was made",
                expected=f"room and write access for {change.bytes:,} bytes",
                got=error.got,
                fix="free or buy storage, or check the token's rights; then " + _AGAIN,
            ) from error
        raise HubError(
            f"the upload to {wanted.repo} was not finished, and no version was made", got=error.got, fix=_AGAIN
        ) from error


def _overtaken(change: RepoChange) -> HubError:
    return HubError(
        f"{change.wanted.repo} changed while this was being published, so nothing was written to it",
        expected=f"its head to be {change.remote.commit or 'the empty repository that was made'}",
        got="a newer commit, perhaps of another publisher",
        fix="run the same command again: it compares with what is there now",
    )


def send(api: HfApi, change: RepoChange, message: str, *, pr: bool, private: bool) -> tuple[str, str | None]:
    """Make the repository if need be, and one commit with everything.

    Returns:
        the full commit, and the address of the pull request.

    Raises:
        HubError: refused, cut off, or somebody was faster; the head of the repository is as before.
    """
    wanted, head = change.wanted, change.remote.commit
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        *(
            CommitOperationAdd(one.path, one.content if isinstance(one.content, bytes) else str(one.content))
            for one in change.send
        ),
        *(CommitOperationDelete(path) for path in change.delete),
    ]
    with _sending(change):
        if head is None:
            with_retries(
                lambda: api.create_repo(wanted.repo, repo_type=wanted.kind, private=private or None, exist_ok=True),
                f"{wanted.repo} can't be made",
            )
            head = with_retries(
                lambda: api.repo_info(wanted.repo, repo_type=wanted.kind).sha, f"{wanted.repo} can't be read"
            )
            if set(api.list_repo_files(wanted.repo, repo_type=wanted.kind, revision=head)) - {".gitattributes"}:
                raise _overtaken(change)

        def commit() -> CommitInfo:
            return api.create_commit(
                wanted.repo, operations, commit_message=message, repo_type=wanted.kind, create_pr=pr, parent_commit=head
            )  # fmt: skip

        # With its parent named, a commit is made once however often it is asked for; a pull request is not.
        made = commit() if pr else with_retries(commit, f"the upload to {wanted.repo} did not succeed")
    return made.oid, made.pr_url


def verify(api: HfApi, change: RepoChange, commit: str, work: Path, *, full: bool) -> None:
    """Compare what the Hub holds at a commit with what was sent.

    Args:
        api: the client.
        change: what was sent.
        commit: where.
        work: a folder for the copies.
        full: download every file and compare its sha256; else only the Hub's own digests.

    Raises:
        HubError: something is missing or differs, named.
    """
    wanted = change.wanted
    there = read_state(api, wanted.repo, wanted.kind, revision=commit)
    for one in wanted.all_files():
        if one.path == CARD and change.card_kept:
            continue
        digest, size = there.tree.get(one.path, ("nothing", -1))
        if digest not in one.digests or size != one.size:
            raise _differs(wanted.repo, commit, one.path, one.digests[0], digest)
        if not full:
            continue
        for attempt in (1, 2):
            with translated(f"{one.path} of {wanted.repo} can't be read back", repo=wanted.repo, revision=commit):
                back = Path(
                    hf_hub_download(
                        wanted.repo, one.path, repo_type=wanted.kind, revision=commit,
                        local_dir=work / "back" / f"{wanted.kind}-{commit[:12]}-{attempt}",
                    )
                )  # fmt: skip
            got = file_sha256(back)
            back.unlink()
            if got == one.digests[0]:
                break
            _log.warning("%s came back changed (sha256 %s…)", one.path, got[:16])
        else:
            raise _differs(wanted.repo, commit, one.path, one.digests[0], got)


def _differs(repo: str, commit: str, path: str, expected: str, got: str) -> HubError:
    return HubError(
        f"{path} of {repo} at {commit} is not what was sent", expected=f"sha256 {expected}", got=got,
        fix="the version is not tagged; check the connection (a proxy?), then " + _AGAIN,
    )  # fmt: skip


def next_version(tags: dict[str, str]) -> str:
    """`vN`, one above the highest there."""
    return f"v{max((int(match[1]) for name in tags if (match := _VERSION.fullmatch(name))), default=0) + 1}"


def check_tag(repo: str, tag: str | None, tags: dict[str, str], unless: str | None) -> None:
    """A tag names one version for ever.

    Args:
        repo: of the tags.
        tag: asked for; None takes the next.
        tags: there now.
        unless: commit that it may name already.

    Raises:
        HubError: it names another commit.
    """
    if tag is not None and tag in tags and tags[tag] != unless:
        raise HubError(
            f"{repo} has a tag {tag!r} already, and tags are not moved", expected="a new name",
            got=f"{tag} at {tags[tag]}", fix=f"--tag {next_version(tags)}, or leave it out",
        )  # fmt: skip


def put_tag(api: HfApi, repo: str, commit: str, tag: str | None, tags: dict[str, str], kind: Kind = "model") -> str:
    """Tag a commit; the next free version where no name is given.

    Raises:
        HubError: the name was taken meanwhile, or the Hub refuses.
    """
    known = dict(tags)
    for _ in range(5):
        name = tag or next_version(known)
        try:
            with_retries(
                partial(api.create_tag, repo, tag=name, revision=commit, repo_type=kind),
                f"the tag {name} can't be set in {repo}", repo=repo,
            )  # fmt: skip
            return name
        except HubError as error:
            if error.status != 409:
                raise
            with translated(f"the tags of {repo} can't be read", repo=repo):
                known = {one.name: one.target_commit for one in api.list_repo_refs(repo, repo_type=kind).tags}
            if known.get(name) == commit:
                return name
            check_tag(repo, tag, known, commit)
    raise HubError(f"no free version of {repo} was found", got=f"{len(known)} tags", fix="--tag NAME")
