"""The text of a data-set card: embeddings of data sets by one prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import DatasetCardData

from rela_zoo.hub.cards._card_head import front_matter, licence_fields
from rela_zoo.hub.cards._data_files import ParquetFacts, data_files
from rela_zoo.registry import PriorSpec

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


@dataclass(frozen=True)
class DatasetFacts:
    """One embedded data set.

    Attributes:
        name: folder in the repository.
        rows, dim, dtype: of the embeddings.
        bytes: of shards and ids.
        digest: of the content.
        preprocessing: how images were prepared.
        skipped: images that have no row.
        parquet: the same rows as Parquet; None in repositories from before.
    """

    name: str
    rows: int
    dim: int
    dtype: str
    bytes: int
    digest: str
    preprocessing: str
    skipped: int = 0
    parquet: ParquetFacts | None = None


def size_category(rows: int) -> str:
    """The Hub's bucket for a number of rows."""
    return next((label for limit, label in _SIZES if rows < limit), "10M<n<100M")


def _transport(path: str) -> str:
    *_, folder, file = path.split("/")
    name = file.removesuffix(".safetensors")
    if folder == "transports":
        return f"`{path}`: targets of students, fitted on `{name}`"
    return f"`{path}`: to the space of `{folder}`, fitted on `{name}`; `rela-zoo pull PRIOR --to {folder}`"


def dataset_card(
    spec: PriorSpec,
    tables: Sequence[DatasetFacts],
    *,
    repo: str,
    model_repo: str,
    sources: Sequence[str] = (),
    transports: Sequence[str] = (),
) -> str:
    """A data-set card in Markdown.

    Args:
        spec: the prior's entry.
        tables: the embedded data sets.
        repo: repository of the embeddings.
        model_repo: repository of the prior; empty for one that comes with rela-zoo.
        sources: data sets of the Hub that the rows come from.
        transports: paths of transports in this repository.
    """
    head = DatasetCardData(
        **licence_fields(spec),
        pretty_name=f"Embeddings by {spec.id}",
        tags=["rela-zoo", "rela-embeddings", f"prior:{model_repo or spec.id}"],
        task_categories=["image-feature-extraction"],
        size_categories=[size_category(sum(one.rows for one in tables))],
        source_datasets=list(sources) or None,
        **data_files(tables),
    )
    rows = [
        f"| `{one.name}/` | {one.rows:,} | {one.dim} | {one.dtype} | {one.bytes:,} | {one.preprocessing} | "
        f"{one.skipped} | `{one.digest[:16]}` |"
        for one in tables
    ]
    named = f"[`{spec.id}`](https://huggingface.co/{model_repo})" if model_repo else f"`{spec.id}` of rela-zoo"
    text = [
        f"# {repo}",
        "",
        f"Embeddings by the prior {named}: {spec.title}. "
        "Numbers and sample ids only: **no image is in this repository**.",
        "",
        "| folder | rows | dim | dtype | bytes | preprocessing | left out | digest |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *_as_data(tables, repo),
        "## For training",
        "",
        "What rela-zoo reads in each folder: `index.json` (prior, preprocessing, hashes), `ids.jsonl` (one sample id a "
        "row: the path of an image below its data set's folder, or index and content digest) and safetensors shards "
        "with one tensor `rows`, raw and not normalised. `rela_zoo.json` lists every file with size and sha256.",
        "",
        "```python",
        "import rela_zoo",
        "",
        f'table = rela_zoo.open_embeddings("PATH/TO/{tables[0].name}")  # a downloaded folder' if tables else "",
        "print(table.shape, table.ids[0], table.rows([0]))",
        "```",
        "",
        "The licence is that of the prior's weights. Whether embeddings are derivatives of the images, and what the "
        "licence of those asks, is for whoever uses them to judge.",
        "",
        *(["## Transports", "", *(f"- {_transport(one)}" for one in sorted(transports)), ""] if transports else []),
    ]
    return front_matter(head) + "\n" + "\n".join(text)


def _as_data(tables: Sequence[DatasetFacts], repo: str) -> list[str]:
    """How to read the Parquet files."""
    named = [one for one in tables if one.parquet is not None]
    without = [one.name for one in tables if one.parquet is None]
    if not named:
        return []
    first = named[0]
    later = ", ".join(f"`{name}`" for name in without)
    files = f"hf://datasets/{repo}/{first.name}"
    return [
        "## As a data set",
        "",
        "`rows-*.parquet` in each folder: the same rows, bit for bit and in the same order, with their sample ids, one "
        "configuration a folder." + (f" Not of {later}, published before there were such files." if later else ""),
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'rows = load_dataset("{repo}", "{first.name}", split="train")',
        "```",
        "",
        "```sql",
        "-- DuckDB: the rows nearest to the first one",
        f"FROM '{files}/rows-*.parquet' SELECT id, array_cosine_similarity(",
        f"  embedding::FLOAT[{first.dim}],",
        f"  (SELECT embedding FROM '{files}/rows-00000-*.parquet' LIMIT 1)::FLOAT[{first.dim}]",
        ") AS likeness ORDER BY likeness DESC LIMIT 5;",
        "```",
        "",
    ]
