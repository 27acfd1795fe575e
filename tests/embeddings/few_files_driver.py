"""Run in a process that may open few files: many shards written, opened and read; a training with workers on them."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

LIMIT, SHARD = 256, 1
resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def opened() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else -1


def tables(photos: str, work: Path) -> None:
    import torch

    from rela_zoo import embed, fit_transport, load_prior, open_embeddings
    from rela_zoo.data import image_source
    from rela_zoo.data.decoded import decode_images

    table = embed(
        load_prior("cifar10-resnet20"), photos, work / "rows", shard_rows=SHARD, num_workers=2, progress=False
    )
    print("shards", len(table.info.shards))
    for verify in ("size", "full"):
        table = open_embeddings(work / "rows", verify=verify)
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    total = sum(float(table.rows(order[i : i + 50]).float().sum()) for i in range(0, len(table), 50))
    whole = float(torch.cat(list(table.iter_rows(64))).float().sum())
    assert abs(total - whole) < 1e-2 * abs(whole) + 1e-2
    fit_transport(table, progress=False).save(work / "t.safetensors")
    print("opened", opened())

    # Batches of more pictures than files may be open, from workers.
    embed(load_prior("cifar10-resnet20"), photos, work / "whole", batch_size=300, num_workers=2, progress=False)
    assert len(decode_images(image_source(photos), num_workers=2)) == len(table)
    print("batches", opened())


def train(photos: str, work: Path) -> None:
    from rela_zoo.hosts.builtin.compose import compose
    from rela_zoo.hosts.builtin.train import train as fit

    result = fit(
        compose(
            "demo",
            None,
            [
                f"data.train_path={photos}", "data.num_workers=4", "rela=cifar10-resnet20", "rela.data_ratio=0.9",
                f"rela.embeddings={work / 'rows'}", f"rela.transport={work / 't.safetensors'}", "max_epochs=2",
                "rela.handover=0.5", f"checkpoint.dir={work / 'runs'}", "auto_resume.enabled=false",
                "optimizer.batch_size=32",
            ],
        )
    )  # fmt: skip
    print("steps", result.steps)


if __name__ == "__main__":
    tables(sys.argv[1], Path(sys.argv[2]))
    if sys.argv[3:] == ["train"]:
        train(sys.argv[1], Path(sys.argv[2]))
