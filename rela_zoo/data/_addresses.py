"""Files at addresses (`https://`, `s3://`, `hf://`, …), read by range through fsspec where they lie."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Any

from rela_zoo._io.text import without_password
from rela_zoo.data._patterns import expand_braces
from rela_zoo.errors import EmbeddingsError

# What fsspec's backends say of the version of a file, any of them.
_MARKS = (
    *("ETag", "etag", "Content-MD5", "Digest", "md5Hash", "generation", "blob_id", "ino"),
    *("mtime", "last_modified", "LastModified", "Last-Modified", "created"),
)
# Read onwards at once. Headers of small images lie close together; what is between those of large ones is skipped.
_BLOCK = 4 << 20
_ATTEMPTS = 3
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_SENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_WHOLE_ONLY = "a server that only sends whole files"
_QUERY = re.compile(r"\?[^\s'\"]*")


class RemoteFile:
    """A file at an address; picklable, and used by any process.

    Args:
        address: for fsspec.

    Attributes:
        name: the address without what may be secret in it, for messages.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = shown(address)

    def facts(self) -> tuple[int, str]:
        """Size in bytes, and what tells this version of the file from others; empty where the server does not say."""
        with _reading(self.name):
            files, path = _file_system(self.address)
            found = _again(lambda: files.info(path))
            if found.get("size") is None:
                raise _no_ranges(self.name, "a server that does not say how large the file is")
            if found.get("partial") is False:
                raise _no_ranges(self.name, _WHOLE_ONLY)
            marks = [f"{key} {found[key]}" for key in _MARKS if found.get(key)]
            return int(found["size"]), "; ".join(marks)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A file object for reading onwards, with jumps."""
        with _reading(self.name):
            files, path = _file_system(self.address)
            with files.open(path, "rb", block_size=_BLOCK, cache_type="readahead") as file:
                # fsspec opens an empty file as one without size and jumps, as those of servers without Range.
                empty = getattr(file, "size", 0) is None and not self.facts()[0]
                yield BytesIO() if empty else file

    def read(self, offset: int, size: int) -> bytes:
        """A part; shorter at the end of the file."""
        with _reading(self.name):
            files, path = _file_system(self.address)
            found = _again(lambda: _part(files, path, offset, offset + size))
        if len(found) > size:
            raise _no_ranges(self.name, _WHOLE_ONLY)
        return found


def _file_system(address: str) -> tuple[Any, str]:
    """Made anew in each process: a connection does not outlive a fork. fsspec keeps those of a process."""
    from fsspec.core import url_to_fs

    found: tuple[Any, str] = url_to_fs(address, **_checked_ranges(address.partition("://")[0]))
    return found


def _checked_ranges(protocol: str) -> dict[str, Any]:
    """Of a web server, what makes fsspec's client look at `Content-Range`, which fsspec itself does not."""
    if protocol not in ("http", "https"):
        return {}
    from fsspec.config import conf

    options = dict(conf.get("http", {}).get("client_kwargs", {})) | conf.get("https", {}).get("client_kwargs", {})
    return {"client_kwargs": {**options, "trace_configs": [*options.get("trace_configs", ()), _range_check()]}}


@cache  # the same one for every file, or fsspec would open connections of its own for each
def _range_check() -> Any:
    import aiohttp

    async def look(session: Any, context: Any, answered: Any) -> None:
        wanted = _RANGE.fullmatch(answered.headers.get("Range", ""))
        if wanted is None or answered.response.status != 206:
            return
        said = answered.response.headers.get("Content-Range", "")
        found = _SENT_RANGE.match(said)
        if found is None or found[1] != wanted[1] or int(found[2]) > int(wanted[2]):
            answered.response.close()
            got = f"{said or 'bytes without Content-Range'} where {wanted[0].replace('=', ' ')} were asked for"
            raise _no_ranges(shown(str(answered.url)), f"a server that answers with {got}")

    config = aiohttp.TraceConfig()
    config.on_request_end.append(look)
    return config


def _part(files: Any, path: str, start: int, stop: int) -> bytes:
    from fsspec.asyn import AsyncFileSystem

    if isinstance(files, AsyncFileSystem):
        return bytes(files.cat_file(path, start=start, end=stop))
    with files.open(path, "rb", cache_type="none") as file:  # else a block is read for each image
        file.seek(start)
        return bytes(file.read(stop - start))


def _again(call: Any) -> Any:
    """The result of a call, which is tried again unless what is wrong will stay."""
    for attempt in range(_ATTEMPTS):
        try:
            return call()
        except (PermissionError, ImportError, EmbeddingsError):
            raise
        except Exception as error:  # each backend raises errors of its own
            if attempt == _ATTEMPTS - 1 or _is_absent(error):
                raise
            time.sleep(2.0**attempt)
    raise AssertionError("unreachable")


def _is_absent(error: Exception) -> bool:
    """Whether a file is not there: fsspec says so, too, of a web server that is out of reach or refuses."""
    cause = error.__cause__
    return isinstance(error, FileNotFoundError) and (cause is None or getattr(cause, "status", None) in (404, 410))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What fsspec and its backends raise, in this package's words."""
    try:
        yield
    except EmbeddingsError:
        raise
    except ImportError as error:
        raise EmbeddingsError(
            f"{name} can't be read", expected=f"the package with which fsspec reads {name.partition('://')[0]}://",
            got=error, fix="install it with pip",
        ) from error  # fmt: skip
    except Exception as error:  # each backend raises errors of its own
        if _is_absent(error):
            raise EmbeddingsError(
                f"there is nothing at {name}", expected="a file", got="not found", fix="correct the address"
            ) from error
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        first = next((line for line in str(cause).splitlines() if line.strip()), "")
        raise EmbeddingsError(
            f"{name} can't be read", expected="an address that fsspec can read",
            got=f"{type(cause).__name__}: {_QUERY.sub('?…', without_password(first))[:200]}",
            fix="correct the address, or check the network and your rights",
        ) from error  # fmt: skip


def _no_ranges(name: str, got: str) -> EmbeddingsError:
    return EmbeddingsError(
        f"{name} can't be read in parts", expected="a server that answers requests with a Range", got=got,
        fix="download the file, and name it where it lies",
    )  # fmt: skip


def shown(address: str) -> str:
    """An address for messages: a signature or a token in its query is nobody's business."""
    return without_password(address.partition("?")[0] if address.startswith("http") else address)


def files_at(address: str) -> list[str]:
    """The addresses that one with braces, or a pattern, stands for.

    Raises:
        EmbeddingsError: none; or a pattern of a web server, which lists nothing.
    """
    found: list[str] = []
    for one in expand_braces(address):
        protocol = one.partition("://")[0]
        if protocol in ("http", "https") and "*" in one.partition("?")[0]:
            raise EmbeddingsError(
                f"a web server does not list its files: {shown(one)}", expected="names, such as …/{000..123}.tar",
                got="a pattern", fix="count them out in braces",
            )  # fmt: skip
        if protocol in ("http", "https") or not re.search(r"[*?\[]", one):
            found.append(one)
            continue
        with _reading(shown(one)):
            files, path = _file_system(one)
            here = sorted(files.unstrip_protocol(name) for name in files.glob(path))
        if not here:
            raise EmbeddingsError(f"there is nothing at {shown(one)}", expected="files", got="no such file")
        found += here
    return found
