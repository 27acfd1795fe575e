"""`rela-zoo embed`: a data set's embeddings by a prior."""

from __future__ import annotations

import json
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from rela_zoo.cli._complete import priors
from rela_zoo.cli._images import DATA_HELP, Split
from rela_zoo.cli._parts import part_of, submit_parts
from rela_zoo.errors import RelaZooError


class RowType(str, Enum):
    """How rows are stored."""

    float16 = "float16"
    float32 = "float32"


class PrecisionName(str, Enum):
    """What the prior computes in."""

    full = "32"
    bf16 = "bf16"
    half = "16"


class SchedulerName(str, Enum):
    """What runs the parts of a job."""

    slurm = "slurm"
    local = "local"


class PreprocessingName(str, Enum):
    """Whose preparation of the images."""

    upstream = "upstream"
    reference = "rela-reference"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("embed")(embed_command)


def embed_command(
    prior: Annotated[
        str, typer.Argument(help="A name from `rela-zoo list`, or a path to a YAML entry.", autocompletion=priors)
    ],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder to write. Run again after a stop, it goes on where it was.")],
    dtype: Annotated[RowType, typer.Option(help="How rows are stored.")] = RowType.float16,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images at once on the device. Default: 32 on a CPU, 256 of 224 px on a GPU."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that decode images. Default: one a core for a GPU, half as many for a CPU."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the prior runs: cpu, cuda, cuda:1, …. Default: a GPU if there is one.")
    ] = None,
    precision: Annotated[
        PrecisionName, typer.Option(help="What the prior computes in; refused where it changes the rows.")
    ] = PrecisionName.full,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Send the prior through torch's compiler first. Default: on a CPU, for a long job.",
        ),
    ] = None,
    preprocessing: Annotated[
        PreprocessingName, typer.Option(help="The prior's own, or ImageNet mean and deviation as in ReLA's code.")
    ] = PreprocessingName.upstream,
    skip_undecodable: Annotated[
        bool, typer.Option("--skip-undecodable", help="Leave out images that can't be decoded, and list them.")
    ] = False,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Default: a bar on a terminal, elsewhere a line every 30 s."),
    ] = None,
    split: Split = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Make one part of the rows, i/n, beside other processes and machines that share the folder; `auto` "
            "reads it from SLURM, torchrun or srun. The last one writes the index; a lost part is made by any other."
        ),
    ] = None,
    submit: Annotated[
        SchedulerName | None,
        typer.Option(help="Hand --parts jobs to a scheduler, by submitit, and return; `local` starts them here."),
    ] = None,
    parts: Annotated[int, typer.Option(min=1, help="Of --submit: how many jobs.")] = 8,
    job: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of --submit, for submitit: timeout_min=240, slurm_partition=gpu, …."),
    ] = None,
    show_profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time went, what binds, and what to change.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a prior over every image of a data set and keep its outputs."""
    from rela_zoo.data import image_source
    from rela_zoo.embeddings import Profile, embed, embed_part
    from rela_zoo.prior import load_prior
    from rela_zoo.registry import at_revision, prior_spec

    source = image_source(data, split=split)
    root = Path(data).expanduser()
    if root.is_dir() and out.expanduser().resolve().is_relative_to(root.resolve()):
        raise RelaZooError(
            f"--out {out} lies in the data", expected="a folder outside of it, or the next run would read it as data",
            got=f"a folder in {root}", fix="name a folder beside the data",
        )  # fmt: skip
    if submit is not None:
        if part is not None or show_profile:
            raise RelaZooError(
                "--submit makes the parts itself", expected="--submit without --part and --profile", got="both",
                fix="leave one out",
            )  # fmt: skip
        spec = prior_spec(prior)  # a misspelt name is better said here than in eight logs
        # All jobs mean the commit that it is at now.
        pinned = at_revision(prior, {spec.repo: spec.revision} if spec.repo and spec.revision else {})
        words = [pinned, data, "--out", str(out), "--dtype", dtype.value, "--precision", precision.value]
        words += ["--preprocessing", preprocessing.value, *(["--skip-undecodable"] if skip_undecodable else [])]
        for name, value in (
            ("--split", split),
            ("--batch-size", batch_size),
            ("--workers", workers),
            ("--device", device),
        ):
            words += [] if value is None else [name, str(value)]
        words += [] if compile is None else ["--compile" if compile else "--no-compile"]
        submitted = submit_parts(["embed", *words], parts, submit.value, job or [], out)
        shown = f"{parts} jobs: {', '.join(submitted['jobs'])}\nlogs: {submitted['logs']}"
        typer.echo(json.dumps(submitted) if as_json else shown)
        return
    started = time.monotonic()
    mine = None if part is None else part_of(part)
    if mine is not None and show_profile:
        raise RelaZooError("a part has no profile", expected="--part, or --profile", got="both", fix="leave one out")
    profile = Profile() if show_profile else None
    network = load_prior(prior, preprocessing=preprocessing.value)
    common: dict[str, Any] = {
        "dtype": dtype.value,
        "batch_size": batch_size,
        "num_workers": workers,
        "device": device,
        "precision": precision.value,
        "compile": compile,
        "on_error": "skip" if skip_undecodable else "raise",
        "progress": "always" if progress else progress is None,
    }
    try:
        if mine is None:
            table = embed(network, source, out, **common, profile=profile)
        elif (found := embed_part(network, source, out, mine, **common)) is not None:
            table = found
        else:
            left = f"part {mine[0]} of {mine[1]} is done; the last of the others writes the index"
            typer.echo(json.dumps({"path": str(out), "finished": False}) if as_json else left)
            return
    except KeyboardInterrupt:
        typer.echo("stopped; finished shards are kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    seconds = time.monotonic() - started
    info = table.info
    if as_json:
        result = {
            "path": str(table.path),
            "prior": info.prior,
            "preprocessing": info.preprocessing,
            "rows": info.rows,
            "dim": info.dim,
            "dtype": info.dtype,
            "shards": len(info.shards),
            "bytes": sum(shard.bytes for shard in info.shards) + info.ids.bytes,
            "skipped": list(info.skipped),
            "digest": info.digest,
            "seconds": round(seconds, 3),
            **({} if profile is None else {"profile": profile.as_dict()}),
        }
        typer.echo(json.dumps(result, indent=2))
        return
    megabytes = sum(shard.bytes for shard in info.shards) / 1e6
    typer.echo(
        f"{info.rows:,} rows of {info.dim} {info.dtype} ({megabytes:,.1f} MB, {len(info.shards)} shards) of the "
        f"{source.describe()}\nin {table.path}, digest {info.digest[:16]}, {seconds:.1f} s"
    )
    for one in info.skipped:
        typer.echo(f"left out, could not be decoded: {one}")
    if profile is not None:
        typer.echo(profile.table())
