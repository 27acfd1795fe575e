"""Publishes in a fork for every line it is told: everything is imported once, and each fork may be killed.

kill_driver.py ENTRY EMBEDDINGS TRANSPORT     a line in: start; a line out: process id; at the end of input: stop
"""

from __future__ import annotations

import os
import sys

from rela_zoo.hub.publish import publish


def main(entry: str, embeddings: str, transport: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                publish(
                    "org/home-made", entry=entry, embeddings={"zoo": embeddings}, transports={"zoo": transport}
                )  # fmt: skip
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
