"""`configs` and `dataset_info` of a data-set card: where `load_dataset` and the viewer find the rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from rela_zoo.hub.cards._dataset_card import DatasetFacts

_KEYS = ("configs", "dataset_info")
_SPLIT = "train"  # the name that `load_dataset` gives to rows that are in no split
_HEAD = re.compile(r"\A---\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_DTYPES = ("int64", "string")


@dataclass(frozen=True)
class ParquetFacts:
    """The Parquet files of one embedded data set.

    Attributes:
        file_bytes: size of the files.
        data_bytes: of what is in them.
        columns: name → `int64` or `string`, of those beside id and embedding.
    """

    file_bytes: int
    data_bytes: int
    columns: Mapping[str, str] = field(default_factory=dict)


def data_files(tables: Sequence[DatasetFacts]) -> dict[str, Any]:
    """Both keys of the head; none where nothing is published as Parquet.

    Without `configs` the viewer takes the lists of ids for the data.
    """
    configs, info = [], []
    for one in tables:
        if one.parquet is None:
            continue
        files = [{"split": _SPLIT, "path": f"{one.name}/rows-*.parquet"}]
        configs.append({"config_name": one.name, "data_files": files})
        features: list[dict[str, Any]] = [{"name": "id", "dtype": "string"}]
        features += [{"name": name, "dtype": dtype} for name, dtype in one.parquet.columns.items()]
        # `list` is the word of today, which releases before 4 can't read; all read this one.
        features.append({"name": "embedding", "sequence": one.dtype, "length": one.dim})
        split = {"name": _SPLIT, "num_bytes": one.parquet.data_bytes, "num_examples": one.rows}
        info.append(
            {
                "config_name": one.name,
                "features": features,
                "splits": [split],
                "download_size": one.parquet.file_bytes,
                "dataset_size": one.parquet.data_bytes,
            }
        )
    return dict(zip(_KEYS, (configs, info), strict=True)) if configs else {}


def card_head(card: str) -> dict[str, Any] | None:
    """The parsed head of any card; None without a proper one."""
    try:
        head = yaml.safe_load(found[1]) if (found := _HEAD.match(card)) else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def read_data_files(card: str) -> dict[str, ParquetFacts]:
    """What a card says of the Parquet files of each data set; those that it says nothing sensible of are left out."""
    listed = (card_head(card) or {}).get(_KEYS[1])
    facts = {}
    for one in listed if isinstance(listed, list) else []:
        try:
            columns = {
                part["name"]: part["dtype"] for part in one["features"] if part["name"] not in ("id", "embedding")
            }
            sizes = one["download_size"], one["dataset_size"]
            if all(isinstance(size, int) for size in sizes) and set(columns.values()) <= set(_DTYPES):
                facts[str(one["config_name"])] = ParquetFacts(*sizes, columns)
        except (KeyError, TypeError):
            continue
    return facts


def with_data_files(edited: str, wanted: str) -> str:
    """A card that a person edited, with `configs` and `dataset_info` of another: no words, and to be right."""
    ours, theirs = _HEAD.match(wanted), _HEAD.match(edited)
    blocks = "".join(_block(ours[1], key) for key in _KEYS) if ours else ""
    if not blocks:
        return edited
    if theirs is None:
        return f"---\n{blocks}---\n{edited}"
    if "".join(_block(theirs[1], key) for key in _KEYS) == blocks:
        return edited
    rest = theirs[1]
    for key in _KEYS:
        rest = rest.replace(_block(rest, key), "")
    return edited[: theirs.start(1)] + rest + blocks + edited[theirs.end(1) :]


def _block(head: str, key: str) -> str:
    """The lines of one key of the head, up to the next key."""
    found = re.search(rf"^{key}:.*?(?=^[^\s\-#]|\Z)", head, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""
