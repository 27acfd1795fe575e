"""From what people copy (a repository, a tag, a page) to an address at a full commit, which is said."""

from __future__ import annotations

import re

from rela_zoo._io.log import logger
from rela_zoo.remote import resolve_commit

log = logger(__name__)

_REPO = r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_FORMS = (
    rf"hf://{_REPO}(?:@(?P<ref>[A-Za-z0-9][\w.-]*))?",
    rf"https://huggingface\.co/{_REPO}(?:/tree/(?P<ref>[A-Za-z0-9][\w.-]*))?/?",
)


def at_commit(name: str) -> str:
    """`hf://org/name@<commit>` for `hf://org/name`, `hf://org/name@v1` or the page of a repository; others unchanged.

    A run names a prior by its commit; this is for fetching, and says which commit it was.

    Raises:
        HubError: no such repository or tag, or the Hub is out of reach.
    """
    found = next((match for form in _FORMS if (match := re.fullmatch(form, name)) is not None), None)
    if found is None:
        return name
    commit = resolve_commit(found["repo"], found["ref"], "model")
    address = f"hf://{found['repo']}@{commit}"
    if address != name:
        log.info("%s is %s", name, address)
    return address
