"""From what people copy (a repository, a tag, a page) to an address at a full commit, which is said."""

from __future__ import annotations

import re

from rela_zoo._io.log import logger
from rela_zoo.errors import HubError
from rela_zoo.remote import client, is_offline, mirror_commit, with_retries

log = logger(__name__)

_REPO = r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_FORMS = (
    rf"hf://{_REPO}(?:@(?P<ref>[A-Za-z0-9][\w.-]*))?",
    rf"https://huggingface\.co/{_REPO}(?:/tree/(?P<ref>[A-Za-z0-9][\w.-]*))?/?",
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def at_commit(name: str) -> str:
    """`hf://org/name@<commit>` for `hf://org/name`, `hf://org/name@v1` or the page of a repository; others unchanged.

    A run names a prior by its commit; this is for fetching, and says which commit it was.

    Raises:
        HubError: no such repository or tag, or the Hub is out of reach.
    """
    found = next((match for form in _FORMS if (match := re.fullmatch(form, name)) is not None), None)
    if found is None:
        return name
    repo, ref = found["repo"], found["ref"]
    commit = ref if ref is not None and _COMMIT.fullmatch(ref) else mirror_commit(repo, ref)
    if commit is None and is_offline():
        raise HubError(
            f"without a network it can't be seen which commit {name} is",
            expected="hf://org/name@<40 hexadecimal digits>", got=name, fix="write the commit, or unset HF_HUB_OFFLINE",
        )  # fmt: skip
    if commit is None:
        info = with_retries(
            lambda: client().repo_info(repo, revision=ref), f"it can't be seen which commit {name} is",
            repo=repo, revision=ref,
        )  # fmt: skip
        commit = str(info.sha)
    address = f"hf://{repo}@{commit}"
    if address != name:
        log.info("%s is %s", name, address)
    return address
