"""What the Hub's client takes for a progress bar: counts the bytes of a download, and ends one that is too large."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


def counter(
    on_bytes: Callable[[int], None] | None, limit: int | None, refusal: Callable[[int, int], Exception]
) -> type[Any]:
    """A class for `tqdm_class` of `hf_hub_download`, which makes one of each download.

    The client says the size of a file when it makes its bar, before it reads the first byte: so the size costs no
    request of its own, and nothing is drawn.

    Args:
        on_bytes: told of bytes as they come; of less than none where the client begins anew.
        limit: most bytes that a file may have; None for any size.
        refusal: from the size and the limit, what is raised for a larger one.
    """

    class Counter:
        def __init__(self, *_: Any, total: float | None = None, initial: int = 0, **__: Any) -> None:
            self.total, self.n = total, initial
            self._check(total or 0)

        def _check(self, size: float) -> None:
            if limit is not None and size > limit:
                raise refusal(int(size), limit)

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            self._check(self.n)
            if on_bytes is not None:
                on_bytes(int(count or 0))

        def update_transfer(self, count: float | None = 1) -> None:
            """Bytes on the wire, of files that come in pieces: they are not those of the file."""

        def set_postfix_str(self, *_: Any, **__: Any) -> None:
            pass

        set_transfer_postfix_str = set_description = set_description_str = refresh = set_postfix_str

        def close(self) -> None:
            pass

        def __enter__(self) -> Counter:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

    return Counter
