"""An index on the Hub: read at its head, changed, and sent as one commit or pull request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd

from rela_zoo.errors import HubError
from rela_zoo.hub import index_file
from rela_zoo.hub.publish._repo_state import RepoState, read_state
from rela_zoo.hub.publish._send import check_token
from rela_zoo.hub.publish._uploads import Upload, is_there
from rela_zoo.registry import INDEX_FILE, index_document
from rela_zoo.remote import client, translated, with_retries

Change = Callable[[index_file.Document], index_file.Document]


@dataclass(frozen=True)
class SentIndex:
    """What was done.

    Attributes:
        repo: of the index.
        commit: with the index as it is now; None in a dry run.
        changed: whether anything had to be sent.
        pull: address of the pull request, if one was opened.
        document: the index.
    """

    repo: str
    commit: str | None
    changed: bool
    pull: str | None
    document: index_file.Document


def send_index(repo: str, change: Change, message: str, *, pr: bool = False, dry_run: bool = False) -> SentIndex:
    """Change the index of a data-set repository, which is made when missing.

    An index of the older layout, a file an entry, becomes one file with the same entries.

    Args:
        repo: `org/name`.
        change: from the index at its head to the new one.
        message: of the commit.
        pr: open a pull request instead of writing to main.
        dry_run: send nothing.

    Raises:
        HubError: refused, out of reach, or somebody was faster; then nothing was written.
        RegistryError: from `change`; or the index there is malformed as a whole.
    """
    api = client()
    if not dry_run:
        check_token(api, repo.split("/")[0], pr)
    state = read_state(api, repo, "dataset")
    if state.commit is None and pr:
        raise HubError(
            f"there is no index {repo} to propose changes to", expected="one that exists", fix="leave out --pr"
        )
    before = (
        index_document(repo, state.commit) if state.commit is not None and _holds_one(state) else index_file.empty()
    )
    document = change(before)
    upload = Upload(INDEX_FILE, index_file.to_bytes(document))
    if is_there(upload, state.tree) or dry_run:
        return SentIndex(repo, None if dry_run else state.commit, not is_there(upload, state.tree), None, document)
    head = state.commit
    if head is None:
        with_retries(lambda: api.create_repo(repo, repo_type="dataset", exist_ok=True), f"{repo} can't be made")
        head = with_retries(lambda: api.repo_info(repo, repo_type="dataset").sha, f"{repo} can't be read")
    try:
        with translated(f"the index {repo} could not be written", repo=repo, kind="dataset"):
            made = api.create_commit(
                repo, [CommitOperationAdd(INDEX_FILE, upload.content)], commit_message=message, repo_type="dataset",
                create_pr=pr, parent_commit=head,
            )  # fmt: skip
    except HubError as error:
        if error.status not in (409, 412):
            raise
        raise HubError(
            f"the index {repo} changed meanwhile, and nothing was written to it", expected=f"its head to be {head}",
            got="a newer commit, perhaps of somebody else", fix="run the same command again",
        ) from error  # fmt: skip
    if not is_there(upload, read_state(api, repo, "dataset", revision=made.oid).tree):
        raise HubError(
            f"{INDEX_FILE} of {repo} at {made.oid} is not what was sent", expected=f"sha256 {upload.digests[0]}",
            fix="check the connection (a proxy?), then run the same command again",
        )  # fmt: skip
    return SentIndex(repo, made.oid, True, made.pr_url, document)


def _holds_one(state: RepoState) -> bool:
    return INDEX_FILE in state.tree or any(path.startswith("priors/") for path in state.tree)
