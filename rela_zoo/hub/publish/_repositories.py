"""What one call brings, and the model repository as it should be: entry, weights, transports, figure, example."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.text import format_bytes
from rela_zoo.errors import HubError
from rela_zoo.hub.cards import CardContext, Measurement, PublishedRows, card_head, model_card, read_facts
from rela_zoo.hub.publish._check_artefacts import Embedded, dataset_facts
from rela_zoo.hub.publish._kept import facts_comment
from rela_zoo.hub.publish._prior_forms import LocalPrior
from rela_zoo.hub.publish._publishable_weights import WEIGHTS_FILE
from rela_zoo.hub.publish._repo_state import RepoState, fetch_text
from rela_zoo.hub.publish._showcase import example, spectrum_figure, versions
from rela_zoo.hub.publish._timm_config import TIMM_CONFIG, timm_config
from rela_zoo.hub.publish._uploads import DesiredRepo, Upload, seal_card
from rela_zoo.prior import identity_digest
from rela_zoo.registry import HUB_ENTRY_FILE, PriorSpec, parse_yaml, read_entry
from rela_zoo.remote import SigningKey
from rela_zoo.transport import PriorTransport, TargetTransport, fit_transport

FIGURE, EXAMPLE = "figure.png", "example.py"
_NOWHERE = "0" * 40  # stands for a commit that is not made yet


def transport_path(name: str) -> str:
    """Of a data set's transport in the model repository."""
    return f"transports/{name}.safetensors"


def between_path(name: str, target: str) -> str:
    """Of a transport to another prior, fitted on a data set, in the model repository."""
    return f"transports/to/{target}/{name}.safetensors"


@dataclass(frozen=True)
class Contribution:
    """What one call of `publish` brings, and where it goes.

    Attributes:
        repo: of the prior.
        dataset_repo: of the embeddings.
        source: the prior.
        embedded: embeddings, by data set.
        columns: labels and splits that are published with them, by data set.
        transports: target transports with their files, by data set.
        between: transports to other priors with their files, by data set and the other's name.
        notes: Markdown for the card.
        measured: numbers for the card; those on a data set of the Hub become its `model-index`.
        source_datasets: data sets of the Hub that the embeddings were made of.
        upload_weights: whether the weight file goes along.
        replace: drop what is published already and is not given now.
        keys: by which the manifests are signed.
    """

    repo: str
    dataset_repo: str
    source: LocalPrior
    embedded: Mapping[str, Embedded]
    transports: Mapping[str, tuple[TargetTransport, Path]]
    between: Mapping[tuple[str, str], tuple[PriorTransport, Path]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    notes: str = ""
    measured: Sequence[Measurement] = ()
    source_datasets: Sequence[str] = ()
    upload_weights: bool = True
    replace: bool = False
    keys: Sequence[SigningKey] = ()

    def transport_files(self) -> list[Upload]:
        """All transports, where they go."""
        found = [Upload(transport_path(name), path) for name, (_, path) in sorted(self.transports.items())]
        return found + [Upload(between_path(*key), path) for key, (_, path) in sorted(self.between.items())]

    @cached_property
    def figure(self) -> bytes | None:
        """PNG of the spectra of what is given; embeddings without a transport are read once for it."""
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


def index_listing(given: Contribution, commit: str) -> dict[str, Any]:
    """What an index lists under `embeddings`: identity of the prior → data set → where its rows are.

    Args:
        given: embeddings of a packaged prior, with transports.
        commit: of the data-set repository.
    """
    found: dict[str, Any] = {}
    place = {"repo": given.dataset_repo, "revision": commit}
    for name, one in sorted(given.embedded.items()):
        held = {"embeddings": {**place, "path": name, "sha256": one.index_sha256, **_sizes(name, one)}}
        if name in given.transports:
            sha256 = file_sha256(given.transports[name][1])
            held["transport"] = {**place, "path": transport_path(name), "sha256": sha256, "kind": "dataset"}
        found.setdefault(identity_digest(one.table.info.identity), {})[name] = held
    for (name, target), (between, path) in sorted(given.between.items()):
        at = {**place, **_between_place(name, target, between, path), "kind": "dataset"}
        begins = found.setdefault(identity_digest(between.source.known), {}).setdefault(name, {})
        begins.setdefault("to", {})[target] = at
    return found


def _sizes(name: str, one: Embedded) -> dict[str, int]:
    facts = dataset_facts(name, one.table.info, None)
    return {"rows": facts.rows, "bytes": facts.bytes}


def _between_place(name: str, target: str, between: PriorTransport, path: Path) -> dict[str, Any]:
    leads_to = identity_digest(between.target.known)
    return {"path": between_path(name, target), "sha256": file_sha256(path), "identity": leads_to}


@dataclass(frozen=True)
class PublishedEntry:
    """The entry that a repository holds now: as it is read, and its artefacts as it writes them."""

    spec: PriorSpec
    artefacts: dict[str, dict[str, Any]]


def read_published_entry(remote: RepoState) -> PublishedEntry | None:
    """Read the entry of a repository, if it has one.

    Raises:
        HubError: it is there and is no entry.
    """
    if HUB_ENTRY_FILE not in remote.tree or remote.commit is None:
        return None
    path = fetch_text(remote, HUB_ENTRY_FILE)
    spec = read_entry(path, hub=(remote.repo, remote.commit))
    raw = parse_yaml(path.read_text(encoding="utf-8"))
    return PublishedEntry(spec, raw.get("artefacts") or {})


def merge_artefacts(given: Contribution, old: PublishedEntry | None, commit: str | None) -> dict[str, dict[str, Any]]:
    """`artefacts` of the entry: what is given, over what is published already.

    Args:
        given: embeddings and transports.
        old: the entry in force.
        commit: of the data-set repository, for embeddings that the entry in force does not name.
    """
    found = {name: dict(value) for name, value in (old.artefacts if old and not given.replace else {}).items()}
    for name, one in given.embedded.items():
        held = found.setdefault(name, {})
        before = held.get("embeddings") or {}
        other = before.get("repo") != given.dataset_repo or before.get("sha256") != one.index_sha256
        if other or given.keys:  # the same rows at an older commit may be signed by another key, or by none
            held["embeddings"] = {
                "repo": given.dataset_repo,
                "revision": commit or _NOWHERE,
                "path": name,
                "sha256": one.index_sha256,
                **_sizes(name, one),
            }
        if other:
            held.pop("transport", None)  # fitted on other rows
            held.pop("to", None)
    for name, (_, path) in given.transports.items():
        found.setdefault(name, {})["transport"] = {"path": transport_path(name), "sha256": file_sha256(path)}
    for (name, target), (between, path) in sorted(given.between.items()):
        held = found.setdefault(name, {})
        held["to"] = {**held.get("to", {}), target: _between_place(name, target, between, path)}
    return {name: found[name] for name in sorted(found) if found[name]}


class _PlainDumper(yaml.SafeDumper):
    """Without anchors, which entries may not have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def entry_text(given: Contribution, held: dict[str, dict[str, Any]], work: Path) -> tuple[bytes, PriorSpec]:
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
    text = yaml.dump(raw, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)
    data = text.encode()
    path = work / HUB_ENTRY_FILE
    path.write_bytes(data)
    return data, read_entry(path, hub=(given.repo, _NOWHERE))


def model_repository(given: Contribution, remote: RepoState, commit: str | None, work: Path) -> DesiredRepo:
    """The model repository; transports of other data sets stay, unless they are replaced.

    Args:
        given: what it should hold.
        remote: what it holds.
        commit: of the data-set repository, if known.
        work: folder for files made here.

    Raises:
        HubError: the repository holds another prior.
        RegistryError: the entry would not be accepted.
    """
    source, spec = given.source, given.source.spec
    old = read_published_entry(remote)
    held = merge_artefacts(given, old, commit)
    if old is not None and old.spec.id != spec.id and not given.replace:
        raise HubError(
            f"{remote.repo} holds another prior", expected=spec.id, got=old.spec.id,
            fix="publish to a repository of its own, or --replace what is there",
        )  # fmt: skip
    data, read_back = entry_text(given, held, work)
    files = [Upload(HUB_ENTRY_FILE, data)]
    if source.weights is not None and given.upload_weights:
        files.append(Upload(WEIGHTS_FILE, source.weights))
    files += given.transport_files()
    there = remote.manifest.files if remote.manifest and not given.replace else {}
    places = [at for one in held.values() for at in (one.get("transport"), *(one.get("to") or {}).values()) if at]
    named = {at.get("path") for at in places}
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
    rows = _published_rows(given, held, remote)
    timm = timm_config(source.spec, source.weights) if source.weights is not None and given.upload_weights else None
    files += [Upload(TIMM_CONFIG, timm)] if timm is not None else []
    card = model_card(
        _for_card(given, read_back),
        notes=given.notes,
        measured=[one.model_copy(update={"prior": spec.id}) for one in given.measured],
        context=CardContext(
            name=f"hf://{remote.repo}",
            base_model=source.base_model,
            rows=rows,
            contents=_listing(given, held, rows, with_figure, with_timm=timm is not None),
            weights=_weights_text(given),
        ),
    )
    facts = facts_comment(given.notes, given.measured, given.source_datasets, source.base_model)
    return DesiredRepo(remote.repo, "model", files, seal_card(f"{card}\n{facts}\n"), kept, given.keys)


def _for_card(given: Contribution, read_back: PriorSpec) -> PriorSpec:
    """The entry as the card describes it: weights of this very repository have no commit that they could know."""
    spec = given.source.spec
    # The commit of the embeddings stays out of the card: a card changes only when there is something new to say.
    return spec.model_copy(update={"artefacts": read_back.artefacts, "notes": read_back.notes})


def _weights_text(given: Contribution) -> str:
    """Where the weights are, for a card; nothing where the entry itself says it."""
    if given.source.spec.source != "local":
        return ""
    if given.source.weights is None:
        return "not published"
    return f"this repository, `{WEIGHTS_FILE}`" if given.upload_weights else "not published; the hash says which"


def _published_rows(
    given: Contribution, held: Mapping[str, Mapping[str, Any]], remote: RepoState
) -> dict[str, PublishedRows]:
    """Sizes of all embeddings: of those given now, and of others as the card in force says them."""
    found = dict(read_facts(card_head(remote.card or "")).datasets)
    for name, one in given.embedded.items():
        found[name] = PublishedRows(**_sizes(name, one))
    return {name: one for name, one in found.items() if held.get(name, {}).get("embeddings")}


def _listing(
    given: Contribution,
    held: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, PublishedRows],
    with_figure: bool,
    with_timm: bool,
) -> str:
    """Markdown about the rest of the repository."""
    lines = ["## In this repository", ""]
    if given.source.weights is not None:
        lines.append(
            f"- `{WEIGHTS_FILE}`: the weights, as safetensors"
            if given.upload_weights
            else "- no weights: they are not published"
        )
    if with_timm:
        lines.append(f'- `{TIMM_CONFIG}`: timm\'s own, for `timm.create_model("hf-hub:{given.repo}", pretrained=True)`')
    for name, one in held.items():
        if at := one.get("embeddings"):
            lines.append(
                f"- embeddings of `{name}`: "
                f"[{at['repo']}](https://huggingface.co/datasets/{at['repo']}), folder `{at['path']}`"
                + (f"; {rows[name].rows:,} rows, {format_bytes(rows[name].bytes)}" if name in rows else "")
            )
        if at := one.get("transport"):
            lines.append(f"- target transport for `{name}`: `{at['path']}`")
        for target, at in sorted(one.get("to", {}).items()):
            lines.append(f"- transport to the space of `{target}`, fitted on `{name}`: `{at['path']}`")
    lines += [
        f"- `{HUB_ENTRY_FILE}`: the registry entry, with hashes and the commits of everything above",
        f"- `{EXAMPLE}`: a worked example; `python {EXAMPLE}` runs as it is",
        "- `rela_zoo.json`: size and sha256 of every file",
        "",
        f"Published with {versions()}.",
        "",
        f"`rela-zoo resolve hf://{given.repo}` prints the name with the newest commit, 40 digits; behind `@` stands a "
        "tag, such as `@v1`, for another version. In a run names on the Hub are always pinned.",
        "",
    ]
    if with_figure:
        lines += [f"![Spectrum of the embeddings]({FIGURE})", ""]
    return "\n".join(lines)
