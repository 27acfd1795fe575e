"""Runs extractions that kill themselves with SIGKILL, each at another moment. Started by test_resume.py.

kill_driver.py itself OUT     OUT/001, …: killed before every fsync, rename and unlink that a run makes, in turn;
                              OUT/repeated: killed again and again until a run gets through; prints the number
kill_driver.py slow OUT       one slow run, for the caller to kill and to collide with
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from image_fixtures import FakePrior, pictures

from rela_zoo.embeddings import embed


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


if __name__ == "__main__":
    mode, out = sys.argv[1], Path(sys.argv[2])
    if mode == "itself":
        moment = runs = 1
        while killed_at(moment, out / f"{moment:03d}"):
            moment += 1
        while killed_at(6, out / "repeated"):
            runs += 1
        print(runs)
    else:
        run(out, delay=0.15, workers=1)
