"""The Hub's client, and its errors in this package's words."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rela_zoo.errors import HubError, RelaZooError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")

_ATTEMPTS = 4
_LONGEST_WAIT = 60.0
_sleep = time.sleep
# HTTP libraries quote a header that they can't send.
_SECRET = re.compile(r"hf_\w+|(?i:bearer)\s+[^\s'\"]+")


def client() -> HfApi:
    """A fresh client: it reads endpoint and token when it is used, not when this package was imported."""
    from huggingface_hub import HfApi, constants

    return HfApi(endpoint=constants.ENDPOINT, library_name="rela-zoo")


@contextmanager
def translated(
    what: str, *, repo: str | None = None, revision: str | None = None, kind: str = "model"
) -> Iterator[None]:
    """Turn whatever the Hub's client raises inside the block into a `HubError`.

    Args:
        what: what was being done: "org/name can't be read".
        repo: the repository, for the advice.
        revision: the commit, for the advice.
        kind: `dataset` for a data-set repository, whose page is elsewhere.

    Raises:
        HubError: in place of errors of the client, of HTTP and of files. No header, and so no token, is repeated.
    """
    from huggingface_hub import errors as hub

    # Which HTTP library the client uses changes between its versions; the base of its own error is the base of that
    # library's errors (no route, refused connection, timeout), which the client lets through.
    http: Any = hub.HfHubHTTPError.__bases__[0]
    own = [getattr(hub, name) for name in ("XetDownloadError", "RevisionResolutionError") if hasattr(hub, name)]
    known = (hub.HfHubHTTPError, hub.HFValidationError, hub.EntryNotFoundError, http, OSError, *own)
    try:
        yield
    except RelaZooError:
        raise
    # The client wraps what goes wrong with the upload of a large file into a bare RuntimeError.
    except (*known, RuntimeError) as error:
        if not any(isinstance(one, known) for one in _chain(error)):
            raise
        raise _explained(error, what, repo, revision, kind) from error


def with_retries(
    call: Callable[[], Result],
    what: str,
    *,
    repo: str | None = None,
    revision: str | None = None,
    kind: str = "model",
    attempts: int = _ATTEMPTS,
) -> Result:
    """The result of `call`, tried again with growing pauses where the error may pass.

    Waits as long as the server asks to, at most a minute, else 1, 2, 4 s.

    Args:
        call: without arguments.
        what, repo, revision, kind: as for `translated`.
        attempts: most calls.

    Raises:
        HubError: as `translated`.
    """
    for attempt in range(attempts):
        try:
            with translated(what, repo=repo, revision=revision, kind=kind):
                return call()
        except HubError as error:
            if not error.transient or attempt == attempts - 1:
                raise
            _sleep(min(error.retry_after if error.retry_after is not None else 2.0**attempt, _LONGEST_WAIT))
    raise AssertionError("unreachable")


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it: a refusal hides behind "not found in the cache"."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found and len(found) < 12:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _explained(error: BaseException, what: str, repo: str | None, revision: str | None, kind: str) -> HubError:
    from huggingface_hub import constants

    chain = _chain(error)
    responses = [found for one in chain if (found := getattr(one, "response", None)) is not None]
    names = [type(one).__name__ for one in chain]
    numbers = [one.errno for one in chain if isinstance(one, OSError) and one.errno is not None]
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}" if repo else constants.ENDPOINT
    if responses:
        return _refused(what, responses[0], names, page, repo, revision)
    if errno.ENOSPC in numbers or getattr(errno, "EDQUOT", -1) in numbers:
        return HubError(
            what, expected="room on the disk", got="the disk (or your quota on it) is full",
            fix=f"free some, or set HF_HOME to a disk with room (the cache is {constants.HF_HUB_CACHE})",
        )  # fmt: skip
    if errno.EROFS in numbers or errno.EACCES in numbers or "PermissionError" in names:
        return HubError(
            what, expected="a Hub cache that can be written, or one that holds the file already",
            got=f"{constants.HF_HUB_CACHE} can't be written", fix="set HF_HOME to a folder of your own",
        )  # fmt: skip
    if "OfflineModeIsEnabled" in names or constants.HF_HUB_OFFLINE:
        return HubError(
            what, expected=f"the file in {constants.HF_HUB_CACHE}, for HF_HUB_OFFLINE is set", got="no such file there",
            fix="fetch it where there is a network: `rela-zoo pull PRIOR --dataset NAME` or `rela-zoo fetch CONFIG`",
        )  # fmt: skip
    if any("Validation" in name for name in names):
        return HubError(what, expected="org/name", got=_first_line(error), fix="correct the name of the repository")
    deepest = chain[-1]
    unreachable = any("Connect" in name or "LocalEntryNotFound" in name for name in names) and not any(
        word in name for name in names for word in ("Read", "RemoteProtocol", "Incomplete")
    )
    return HubError(
        what,
        expected=f"an answer from {constants.ENDPOINT}",
        got=f"{type(deepest).__name__}: {_first_line(deepest)}".rstrip(": "),
        fix="check the network and HF_ENDPOINT; what was fetched before is used without a network",
        transient=not unreachable,
    )


def _refused(what: str, response: Any, names: list[str], page: str, repo: str | None, revision: str | None) -> HubError:
    """What a status code means."""
    status = int(response.status_code)
    code = str(response.headers.get("X-Error-Code", ""))
    message = _SECRET.sub("<token>", str(response.headers.get("X-Error-Message", "")))[:300]
    got = f"HTTP {status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    wait, transient = None, False
    if code == "GatedRepo" or "GatedRepoError" in names:
        expected, fix = "access to a gated repository", f"accept the conditions at {page}, then `hf auth login`"
    elif "quota" in message.lower() or "storage" in message.lower() or status in (402, 413, 507):
        settings = f"{page.removesuffix('/' + str(repo))}/settings"
        expected, fix = "room in the account's storage", f"free storage at {settings}, then run the same command again"
    elif code == "RevisionNotFound" or "RevisionNotFoundError" in names:
        expected, fix = f"a commit {revision}", f"see the history at {page}"
    elif code == "EntryNotFound" or "RemoteEntryNotFoundError" in names:
        expected, fix = f"the file at commit {revision}", f"see the files at {page}"
    elif status == 401 and "invalid" in message.lower():
        expected, fix = (
            "a token that the Hub knows",
            "it was revoked or is mistyped: `hf auth login`",
        )
    elif code == "RepoNotFound" or status in (401, 404):
        expected = f"a repository {repo} that you may read"
        fix = "check the name; if the repository is private: `hf auth login` with a token that may read it"
    elif status == 403:
        expected = "a token with the right to do this"
        fix = "`hf auth login` with a token that has the right to do this (write, for publishing)"
    elif status in (409, 412):
        expected = "a repository that nobody else is writing"
        fix = "somebody else changed the repository meanwhile: look at it, then run the same command again"
    elif status == 429 or status >= 500:
        expected, fix, transient = "an answer", "run the same command again later; finished files are kept", True
        with suppress(ValueError):
            wait = float(response.headers.get("Retry-After", ""))
    else:
        expected, fix = "an answer", f"see {page}"
    return HubError(what, expected=expected, got=got, fix=fix, transient=transient, retry_after=wait, status=status)


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return _SECRET.sub("<token>", line)[:300]
