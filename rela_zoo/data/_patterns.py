"""What people write for several files, or for a place elsewhere: patterns, braces, addresses of the Hub."""

from __future__ import annotations

import glob
import re
from contextlib import suppress
from pathlib import Path

from rela_zoo.errors import EmbeddingsError

# A path that went through `Path` has lost a slash.
_ADDRESS = re.compile(r"hf:/{1,2}(?=datasets/)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?=[^/])")  # one letter is a drive of Windows
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 100_000


def address_of(text: str) -> str | None:
    """`hf://datasets/…` as it was written; None for a path."""
    match = _ADDRESS.match(text)
    return f"hf://{text[match.end() :]}" if match else None


def url_of(text: str) -> str | None:
    """`https://…`, `s3://…` or another address as it was written, of `file://…` the path; None for a path.

    Examples:
        >>> url_of("s3:/bucket/a.tar"), url_of("file:///data/a.tar"), url_of("data/a.tar")
        ('s3://bucket/a.tar', '/data/a.tar', None)
    """
    match = _URL.match(text)
    if match is None:
        return None
    with suppress(OSError):  # a signed address is longer than any file's name
        if Path(text).exists():
            return None
    rest, scheme = text[match.end() :], match[1].lower()
    return f"/{rest}" if scheme == "file" else f"{scheme}://{rest}"


def is_there(data: str | Path) -> bool:
    """Whether there is something at a path, pattern or address; of an address it is only seen when it is opened.

    Examples:
        >>> is_there("photos"), is_there("photos/cat/*.png"), is_there("hf://datasets/org/name"), is_there("nowhere")
        (True, True, True, False)
    """
    text = str(data)
    url = url_of(text)
    if address_of(text) is not None or (url is not None and "://" in url):
        return True
    path = Path(url or text).expanduser()
    return path.exists() or bool(matches(path))


def matches(pattern: Path) -> list[Path]:
    """The files that a pattern with `*`, `?`, `[…]`, `{a,b}` or `{000..123}` stands for, in order; perhaps none.

    Raises:
        EmbeddingsError: of a range in braces some files are there and others are not.
    """
    found: list[str] = []
    missing: list[str] = []
    for one in expand_braces(str(pattern)):
        here = sorted(glob.glob(one))
        found += here
        missing += [] if here else [one]
    if found and missing:
        raise EmbeddingsError(
            f"{len(missing)} of the files of {pattern} are not there", expected="all that the braces stand for",
            got=f"no {missing[0]}", fix="copy them there, or correct the braces",
        )  # fmt: skip
    return [Path(one) for one in dict.fromkeys(found)]


def expand_braces(text: str) -> list[str]:
    """`a-{00..02}.tar` → `a-00.tar`, `a-01.tar`, `a-02.tar`; `{a,b}` likewise; as shells do.

    Raises:
        EmbeddingsError: they stand for too many files.

    Examples:
        >>> expand_braces("{train,val}-{8..10}.tar")
        ['train-8.tar', 'train-9.tar', 'train-10.tar', 'val-8.tar', 'val-9.tar', 'val-10.tar']
    """
    match = _BRACES.search(text)
    inside = match[1] if match else ""
    numbers = _RANGE.fullmatch(inside)
    if match is None or not (numbers or "," in inside):
        return [text]
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST:
            raise EmbeddingsError(f"the braces of {text} are no range", expected="{000..123}", got=match[0])
        width = len(numbers[1]) if numbers[1].startswith("0") else 1
        words = [f"{one:0{width}d}" for one in range(first, last + 1)]
    else:
        words = inside.split(",")
    rest = expand_braces(text[match.end() :])
    if len(words) * len(rest) > _MOST:
        raise EmbeddingsError(f"the braces of {text} stand for too many files", expected=f"at most {_MOST:,}")
    return [f"{text[: match.start()]}{word}{end}" for word in words for end in rest]
