"""The data-set repository as it should be: of each data set shards, Parquet and index; transports; the card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.log import logger
from rela_zoo.embeddings import INDEX, column_dtype, read_columns, read_index, write_parquet
from rela_zoo.errors import EmbeddingsError, HubError
from rela_zoo.hub.cards import DatasetFacts, ParquetFacts, dataset_card, read_data_files
from rela_zoo.hub.publish._check_artefacts import Embedded, dataset_facts
from rela_zoo.hub.publish._repo_state import RepoState, fetch_text
from rela_zoo.hub.publish._repositories import Contribution
from rela_zoo.hub.publish._uploads import DesiredRepo, Upload, seal_card
from rela_zoo.remote import ManifestEntry

log = logger(__name__)

_PARQUET = re.compile(r"rows-[0-9]{5}-of-[0-9]{5}\.parquet")


def check_columns(files: Mapping[str, Path], embedded: Mapping[str, Embedded]) -> dict[str, dict[str, Sequence[Any]]]:
    """Labels and splits of the embeddings that are given.

    Raises:
        EmbeddingsError: of other embeddings, or not one for each row.
    """
    if strangers := sorted(files.keys() - embedded.keys()):
        raise EmbeddingsError(
            f"labels are given of {', '.join(strangers)}, and no embeddings",
            expected=f"a name of {', '.join(sorted(embedded)) or '--embeddings'}", got=strangers[0],
        )  # fmt: skip
    return {name: {**read_columns(path, embedded[name].table.ids)} for name, path in files.items()}


def embeddings_repository(given: Contribution, remote: RepoState, work: Path) -> DesiredRepo:
    """The data-set repository; folders of other data sets stay, unless they are replaced.

    Args:
        given: what it should hold.
        remote: what it holds.
        work: folder for Parquet files made here.

    Raises:
        HubError: a folder that is there can't be read.
        EmbeddingsError: no room for the files made here.
    """
    old = remote.manifest.files if remote.manifest and not given.replace else {}
    there = {path: record for path, record in old.items() if path in remote.tree}
    said = read_data_files(remote.card or "")
    files: list[Upload] = []
    kept: dict[str, ManifestEntry] = {}
    listed: dict[str, DatasetFacts] = {}
    for name, one in sorted(given.embedded.items()):
        files += [Upload(f"{name}/{file}", one.table.path / file) for file in one.files]
        rows = _rows_files(name, there)
        if name in said and rows and name not in given.columns and _is_same(name, one, there):
            # Made of these very rows, perhaps with labels, perhaps by another version of pyarrow, whose bytes differ.
            kept |= rows
            parquet = said[name]
        else:
            if name in said and said[name].columns and name not in given.columns:
                log.warning(
                    "%s: %s of %r were published and go, as its rows have changed; --labels gives them again",
                    remote.repo, " and ".join(said[name].columns), name,
                )  # fmt: skip
            made, parquet = _make_parquet(given, name, work)
            files += made
        listed[name] = dataset_facts(name, one.table.info, parquet)
    if given.source.packaged:
        files += given.transport_files()
    new = {one.path for one in files}
    for path, record in there.items():
        name, _, file = path.partition("/")
        if name in given.embedded or not file or path in new:
            continue
        if name == "transports" and _is_stale(path, given, old):
            continue
        kept[path] = record
        if file == INDEX:
            index = fetch_text(remote, path)
            if file_sha256(index) != record.sha256:
                raise HubError(
                    f"{path} of {remote.repo} is not as its manifest says", expected=record.sha256,
                    got=file_sha256(index), fix="--replace publishes without what is there now",
                )  # fmt: skip
            parquet_there = said.get(name) if _rows_files(name, there) else None
            listed[name] = dataset_facts(name, read_index(index.parent), parquet_there)
    card = dataset_card(
        given.source.spec,
        [listed[name] for name in sorted(listed)],
        repo=remote.repo,
        model_repo="" if given.source.packaged else given.repo,
        sources=given.source_datasets,
        transports=[path for path in (*kept, *(one.path for one in files)) if path.startswith("transports/")],
    )
    return DesiredRepo(remote.repo, "dataset", files, seal_card(card), kept, given.keys)


def _make_parquet(given: Contribution, name: str, work: Path) -> tuple[list[Upload], ParquetFacts]:
    columns = given.columns.get(name, {})
    paths, data_bytes = write_parquet(given.embedded[name].table, work / "parquet" / name, columns)
    made = [Upload(f"{name}/{path.name}", path) for path in paths]
    kinds = {column: column_dtype(values) for column, values in columns.items()}
    return made, ParquetFacts(sum(one.size for one in made), data_bytes, kinds)


def _rows_files(name: str, there: Mapping[str, ManifestEntry]) -> dict[str, ManifestEntry]:
    """The Parquet files of a data set."""
    folder = f"{name}/"
    return {
        path: one for path, one in there.items() if path.startswith(folder) and _PARQUET.fullmatch(path[len(folder) :])
    }


def _is_same(name: str, one: Embedded, there: Mapping[str, ManifestEntry]) -> bool:
    before = there.get(f"{name}/{INDEX}")
    return before is not None and before.sha256 == one.index_sha256


def _is_stale(path: str, given: Contribution, old: Mapping[str, ManifestEntry]) -> bool:
    """Whether a transport that is there was fitted on rows that are replaced now."""
    name = Path(path).stem
    return name in given.embedded and not _is_same(name, given.embedded[name], old)
