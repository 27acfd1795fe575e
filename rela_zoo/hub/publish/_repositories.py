"""The two repositories as they are to be: embeddings with their card; entry, weights, transports, figure, example."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io.digest import file_sha256
from rela_zoo.embeddings._format import INDEX, read_index
from rela_zoo.errors import HubError
from rela_zoo.hub.cards import Measurement, dataset_card, model_card
from rela_zoo.hub.publish._check_artefacts import Embedded, facts, facts_of
from rela_zoo.hub.publish._example import example
from rela_zoo.hub.publish._prior_forms import Source
from rela_zoo.hub.publish._publishable_weights import WEIGHTS_FILE
from rela_zoo.hub.publish._repo_state import Remote, fetch
from rela_zoo.hub.publish._showcase import spectrum_figure
from rela_zoo.hub.publish._uploads import Upload, Wanted, sealed
from rela_zoo.registry import HUB_ENTRY_FILE, PriorSpec, read_entry
from rela_zoo.registry._read import parse_yaml
from rela_zoo.remote import FileRecord
from rela_zoo.transport import TargetTransport, fit_transport

FIGURE, EXAMPLE = "figure.png", "example.py"
_NOWHERE = "0" * 40  # stands for a commit that is not made yet


def transport_path(name: str) -> str:
    """Of a data set's transport in the model repository."""
    return f"transports/{name}.safetensors"


@dataclass(frozen=True)
class Given:
    """What one call of `publish` brings.

    Attributes:
        source: the prior.
        embedded: embeddings, by data set.
        transports: target transports with their files, by data set.
        notes: Markdown for the card.
        measured: numbers for the card; those on a data set of the Hub become its `model-index`.
        source_datasets: data sets of the Hub that the embeddings were made of.
        upload_weights: whether the weight file goes along.
    """

    source: Source
    embedded: Mapping[str, Embedded]
    transports: Mapping[str, tuple[TargetTransport, Path]]
    notes: str = ""
    measured: Sequence[Measurement] = ()
    source_datasets: Sequence[str] = ()
    upload_weights: bool = True

    @cached_property
    def figure(self) -> bytes | None:
        """PNG of the spectra of what is given; embeddings without a transport are looked through once for it."""
        spectra = {
            name: (one.stats.rows, one.stats.explained_variance_ratio) for name, (one, _) in self.transports.items()
        }
        for name, embedded in self.embedded.items():
            if name not in spectra and embedded.table.shape[0] > 1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # few rows are no mistake in a picture
                    stats = fit_transport(embedded.table, progress=False).stats
                spectra[name] = (stats.rows, stats.explained_variance_ratio)
        return spectrum_figure(self.source.spec.id, spectra) if spectra else None


def embeddings_repository(given: Given, remote: Remote, model_repo: str, replace: bool) -> Wanted:
    """The data-set repository; folders of other data sets that are there already stay, unless `replace`.

    Raises:
        HubError: a folder that is there can't be read.
    """
    files = [
        Upload(f"{name}/{file}", one.table.path / file)
        for name, one in sorted(given.embedded.items())
        for file in one.files
    ]
    listed = {name: facts(one) for name, one in given.embedded.items()}
    kept: dict[str, FileRecord] = {}
    old = remote.manifest.files if remote.manifest and not replace else {}
    for path, record in old.items():
        name, _, file = path.partition("/")
        if name in given.embedded or not file or path not in remote.tree:
            continue
        kept[path] = record
        if file == INDEX:
            index = fetch(remote, path)
            if file_sha256(index) != record.sha256:
                raise HubError(
                    f"{path} of {remote.repo} is not as its manifest says", expected=record.sha256,
                    got=file_sha256(index), fix="--replace publishes without what is there now",
                )  # fmt: skip
            listed[name] = facts_of(name, read_index(index.parent))
    tables = [listed[name] for name in sorted(listed)]
    card = dataset_card(
        given.source.spec, tables, repo=remote.repo, model_repo=model_repo, sources=given.source_datasets
    )
    return Wanted(remote.repo, "dataset", files, sealed(card), kept)


@dataclass(frozen=True)
class Published:
    """The entry that a repository holds now: its id, and its artefacts as it writes them."""

    id: str
    artefacts: dict[str, dict[str, Any]]


def published_entry(remote: Remote) -> Published | None:
    """Read the entry of a repository, if it has one that can be read.

    Raises:
        HubError: it is there and is no entry.
    """
    if HUB_ENTRY_FILE not in remote.tree or remote.commit is None:
        return None
    path = fetch(remote, HUB_ENTRY_FILE)
    spec = read_entry(path, hub=(remote.repo, remote.commit))
    raw = parse_yaml(path.read_text(encoding="utf-8"))
    return Published(spec.id, raw.get("artefacts") or {})


def artefacts(
    given: Given, old: Published | None, dataset_repo: str, commit: str | None, replace: bool
) -> dict[str, dict[str, Any]]:
    """`artefacts` of the entry: what is given, over what is published already.

    Args:
        given: embeddings and transports.
        old: the entry in force.
        dataset_repo: of the embeddings.
        commit: of the data-set repository, for embeddings that the entry in force does not name.
        replace: forget what is published already.
    """
    found = {name: dict(value) for name, value in (old.artefacts if old and not replace else {}).items()}
    for name, one in given.embedded.items():
        held = found.setdefault(name, {})
        before = held.get("embeddings") or {}
        if before.get("repo") != dataset_repo or before.get("sha256") != one.index_sha256:
            held["embeddings"] = {
                "repo": dataset_repo,
                "revision": commit or _NOWHERE,
                "path": name,
                "sha256": one.index_sha256,
            }
            held.pop("transport", None)  # fitted on other rows
    for name, (_, path) in given.transports.items():
        found.setdefault(name, {})["transport"] = {"path": transport_path(name), "sha256": file_sha256(path)}
    return {name: found[name] for name in sorted(found) if found[name]}


class _Plain(yaml.SafeDumper):
    """Without anchors, which entries may not have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def entry_text(given: Given, repo: str, held: dict[str, dict[str, Any]], work: Path) -> tuple[bytes, PriorSpec]:
    """The bytes of `prior.yaml`, read back as anybody will read them.

    Raises:
        RegistryError: it would not be accepted.
    """
    spec = given.source.spec
    raw = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.source == "local":
        raw["source"] = "hub"  # repository and commit are filled in by whoever reads it there
        if given.source.weights is not None and not given.upload_weights:
            note = "The weights are not published here; with the file of this sha256 at hand the prior loads."
            raw["notes"] = [*(one for one in raw.get("notes", []) if one != note), note]
    if held:
        raw["artefacts"] = held
    text = yaml.dump(raw, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    data = text.encode()
    path = work / HUB_ENTRY_FILE
    path.write_bytes(data)
    return data, read_entry(path, hub=(repo, _NOWHERE))


def model_repository(
    given: Given, remote: Remote, old: Published | None, held: dict[str, dict[str, Any]],
    dataset_repo: str, work: Path, replace: bool,
) -> Wanted:  # fmt: skip
    """The model repository; transports of other data sets stay, unless `replace`.

    Raises:
        HubError: the repository holds another prior.
        RegistryError: the entry would not be accepted.
    """
    source, spec = given.source, given.source.spec
    if old is not None and old.id != spec.id and not replace:
        raise HubError(
            f"{remote.repo} holds another prior", expected=spec.id, got=old.id,
            fix="publish to a repository of its own, or --replace what is there",
        )  # fmt: skip
    data, read_back = entry_text(given, remote.repo, held, work)
    files = [Upload(HUB_ENTRY_FILE, data)]
    if source.weights is not None and given.upload_weights:
        files.append(Upload(WEIGHTS_FILE, source.weights))
    files += [Upload(transport_path(name), path) for name, (_, path) in sorted(given.transports.items())]
    there = remote.manifest.files if remote.manifest and not replace else {}
    named = {transport_path(name) for name, one in held.items() if one.get("transport")}
    kept = {
        path: record
        for path, record in there.items()
        if path in named and path in remote.tree and path not in {one.path for one in files}
    }
    if given.figure is not None:
        files.append(Upload(FIGURE, given.figure))
    elif FIGURE in there and FIGURE in remote.tree and held:
        kept[FIGURE] = there[FIGURE]
    with_figure = given.figure is not None or FIGURE in kept
    loadable = spec.family != "external" and (spec.source != "local" or WEIGHTS_FILE in {one.path for one in files})
    files.append(Upload(EXAMPLE, example(remote.repo, read_back, loadable=loadable).encode()))
    embedded = [name for name, one in held.items() if one.get("embeddings")]
    card = model_card(
        _for_card(given, read_back),
        notes=given.notes,
        name=f"hf://{remote.repo}@COMMIT",
        base_model=source.base_model,
        datasets=[dataset_repo] if embedded else [],
        published=_published(given, held, with_figure),
        weights=_weights_text(given),
        measured=[one.model_copy(update={"prior": spec.id}) for one in given.measured],
    )
    return Wanted(remote.repo, "model", files, sealed(card), kept)


def _for_card(given: Given, read_back: PriorSpec) -> PriorSpec:
    """The entry as the card describes it: weights of this very repository have no commit that they could know."""
    spec = given.source.spec
    # The commit of the embeddings stays out of the card: a card changes only when there is something new to say.
    return spec.model_copy(update={"artefacts": read_back.artefacts, "notes": read_back.notes})


def _weights_text(given: Given) -> str:
    """Where the weights are, for a card; nothing where the entry itself says it."""
    if given.source.spec.source != "local":
        return ""
    if given.source.weights is None:
        return "not published"
    return f"this repository, `{WEIGHTS_FILE}`" if given.upload_weights else "not published; the hash says which"


def _published(given: Given, held: Mapping[str, Mapping[str, Any]], with_figure: bool) -> str:
    """Markdown about the rest of the repository."""
    lines = ["## In this repository", ""]
    if given.source.weights is not None:
        lines.append(
            f"- `{WEIGHTS_FILE}`: the weights, as safetensors"
            if given.upload_weights
            else "- no weights: they are not published"
        )
    for name, one in held.items():
        if at := one.get("embeddings"):
            lines.append(
                f"- embeddings of `{name}`: "
                f"[{at['repo']}](https://huggingface.co/datasets/{at['repo']}), folder `{at['path']}`"
            )
        if at := one.get("transport"):
            lines.append(f"- target transport for `{name}`: `{at['path']}`")
    lines += [
        f"- `{HUB_ENTRY_FILE}`: the registry entry, with hashes and the commits of everything above",
        f"- `{EXAMPLE}`: a worked example; `python {EXAMPLE}` runs as it is",
        "- `rela_zoo.json`: size and sha256 of every file",
        "",
        "`COMMIT` above is the full commit of the version you want: 40 digits, from this page's history. Names on "
        "the Hub are always pinned.",
        "",
    ]
    if with_figure:
        lines += [f"![Spectrum of the embeddings]({FIGURE})", ""]
    return "\n".join(lines)
