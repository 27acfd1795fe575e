"""Runs extractions that kill themselves with SIGKILL, each at another moment. Started by test_resume.py.

kill_driver.py itself OUT     OUT/001, …: killed before every fsync, rename and unlink that a run makes, in turn;
                              OUT/repeated: killed again and again until a run gets through; prints the number
kill_driver.py parts OUT      eight parts at once, killed 50 times at random moments and begun again; prints the kills
kill_driver.py slow OUT       one slow run, for the caller to kill and to collide with
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from image_fixtures import FakePrior, pictures

from rela_zoo.embeddings import embed, embed_part


def run(out: Path, delay: float = 0.0, workers: int = 0) -> None:
    prior = FakePrior(delay=delay)
    embed(prior, pictures(50), out, shard_rows=16, batch_size=5, num_workers=workers, progress=False)


def killed_at(moment: int, out: Path) -> bool:
    """Run in a fork that dies before its `moment`-th disk operation; False if it got through."""
    child = os.fork()
    if child == 0:
        left = [moment]

        def armed(real: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        os.fsync, os.replace, os.unlink = armed(os.fsync), armed(os.replace), armed(os.unlink)
        code = 1
        try:
            run(out)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit("a run failed that should have been killed or finished")
    return False


def parts(out: Path, of: int = 8, kills: int = 50) -> int:
    """Every part in a fork; 50 times one of them is killed and begun again. Returns how many were alive when killed."""

    def begin(number: int) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                embed_part(
                    FakePrior(delay=0.5), pictures(1000), out, (number, of), shard_rows=5, batch_size=5, num_workers=0,
                    progress=False,
                )  # fmt: skip
                code = 0
            finally:
                os._exit(code)
        return child

    draw, killed = random.Random(0), 0
    children = {number: begin(number) for number in range(1, of + 1)}
    for _ in range(kills):
        time.sleep(draw.uniform(0.0, 0.1))
        number = draw.randint(1, of)
        os.kill(children[number], signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(children[number], 0)[1])
        children[number] = begin(number)
    for child in children.values():
        if os.WEXITSTATUS(os.waitpid(child, 0)[1]):
            raise SystemExit("a part failed")
    return killed


if __name__ == "__main__":
    mode, out = sys.argv[1], Path(sys.argv[2])
    if mode == "itself":
        moment = runs = 1
        while killed_at(moment, out / f"{moment:03d}"):
            moment += 1
        while killed_at(6, out / "repeated"):
            runs += 1
        print(runs)
    elif mode == "parts":
        print(parts(out))
    else:
        # As on a terminal; whoever started the tests in the background of a shell has Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(out, delay=0.15, workers=1)
