"""`--part i/n` and `--submit`, for commands that many processes share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rela_zoo._io.install import install_command
from rela_zoo._io.ranks import part_of_environment
from rela_zoo.errors import RelaZooError


def part_of(text: str) -> tuple[int, int]:
    """`3/8`, or with `auto` what the environment says → (3, 8)."""
    if text == "auto":
        found = part_of_environment()
        if found is None:
            raise RelaZooError(
                "nothing in the environment says which part this is",
                expected="variables of a SLURM job array, of torchrun, or of srun",
                fix="say it: --part 1/8",
            )
        return found
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise RelaZooError("--part names no part", expected="i/n, such as 1/8, or auto", got=text)
    return int(number), int(of)


def submit_parts(command: Sequence[str], parts: int, cluster: str, options: Sequence[str], out: Path) -> dict[str, Any]:
    """Hand the parts of a command to a scheduler: each is a job of its own, which a lost one does not take along.

    Args:
        command: of rela-zoo, without `--part`.
        parts: how many jobs.
        cluster: `slurm`, or `local` for processes on this machine.
        options: KEY=VALUE, for submitit's `update_parameters`.
        out: what is made; logs go into a folder beside it.

    Returns:
        `jobs`, their ids, and `logs`, the folder.

    Raises:
        RelaZooError: submitit is missing, an option that it doesn't know, or no such scheduler here.
    """
    try:
        import submitit
    except ImportError:
        fix = install_command("slurm")
        raise RelaZooError("--submit needs submitit", expected="submitit", got="not installed", fix=fix) from None
    place = out.expanduser().absolute()
    logs = place.with_name(f"{place.name}-jobs")
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(name=f"rela-zoo-{command[0]}", **_options(options))
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise RelaZooError(
            f"the jobs can't be submitted to {cluster}", expected="a scheduler, and options that submitit knows",
            got=error, fix="see submitit's `update_parameters` for names; --submit local runs the jobs here",
        ) from error  # fmt: skip
    with executor.batch():
        jobs = [
            executor.submit(
                submitit.helpers.CommandFunction(
                    [sys.executable, "-m", "rela_zoo", *command, "--part", f"{number}/{parts}"]
                )
            )
            for number in range(1, parts + 1)
        ]
    return {"jobs": [job.job_id for job in jobs], "logs": str(logs)}


def _options(words: Sequence[str]) -> dict[str, Any]:
    import yaml

    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()):
            raise RelaZooError("an option of --job can't be read", expected="KEY=VALUE", got=word)
        found[key] = yaml.safe_load(value)
    return found
