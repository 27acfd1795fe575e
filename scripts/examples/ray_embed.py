"""Embed a data set by Ray Data: it hands out shards, and `embed_shard` makes them.

    pip install "ray[data]"
    python scripts/examples/ray_embed.py cifar10-resnet20 DATA OUT

Ray needs no rows from its workers: each writes its shards into the folder, and the one that sees that all are there
writes the index. A shard that was lost with its worker is made by the retry, or by the same command again.
"""

from __future__ import annotations

import argparse
from typing import Any

from rela_zoo import embed_shard, open_embeddings
from rela_zoo.embeddings import count_shards


def main() -> None:
    """Hand out the shards, and open what came of it."""
    import ray

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("data")
    parser.add_argument("out", help="a folder that all workers share")
    parser.add_argument("--shard-rows", type=int)
    parser.add_argument("--workers", type=int, default=2, help="shards made at once")
    parser.add_argument("--gpus", type=float, default=0, help="of each worker")
    args = parser.parse_args()

    def make(batch: dict[str, Any]) -> dict[str, Any]:
        embed_shard(args.prior, args.data, args.out, batch["id"].tolist(), shard_rows=args.shard_rows)
        return batch

    shards = count_shards(args.data, shard_rows=args.shard_rows, out=args.out)
    numbers = ray.data.range(shards, override_num_blocks=shards)
    numbers.map_batches(make, batch_size=1, concurrency=args.workers, num_gpus=args.gpus).materialize()
    table = open_embeddings(args.out)
    print(f"{len(table):,} rows in {len(table.info.shards)} shards, digest {table.digest[:16]}")


if __name__ == "__main__":
    main()
