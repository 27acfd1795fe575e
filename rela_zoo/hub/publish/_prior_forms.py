"""The four forms of a prior that can be published: an entry, a timm model, a module of the user's, a checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rela_zoo._io.digest import file_sha256
from rela_zoo.errors import RegistryError, WeightsError
from rela_zoo.hub.publish._details import Details, make_spec
from rela_zoo.hub.publish._publishable_weights import WEIGHTS_FILE, pin_timm_weights, write_safetensors
from rela_zoo.prior import (
    build,
    feature_dim,
    find_weights,
    load_exactly,
    load_into,
    own_network,
    read_weights,
    state_digest,
    timm_preprocessing,
    verify_sha256,
)
from rela_zoo.prior.trained_backbone import read_backbone
from rela_zoo.registry import PriorSpec, packaged_priors, prior_spec


@dataclass(frozen=True)
class LocalPrior:
    """A prior on this machine, ready to be published.

    Attributes:
        spec: its entry: of source `timm` or `hub` where the weights stay in their repository, else of source `local`
            with the file `model.safetensors`, or without a file.
        weights: that file on this machine.
        digests: hashes by which artefacts of this prior know its weights.
        base_model: repository that the weights were derived from.
        local: the entry to embed with on this machine, where it is not `spec`.
        said: fields of the entry that the publisher has written, now; the others have values of nobody's choice.
        packaged: whether everybody has this entry already, so that embeddings alone are published.
    """

    spec: PriorSpec
    weights: Path | None
    digests: frozenset[str]
    base_model: str | None = None
    local: PriorSpec | None = None
    said: frozenset[str] = frozenset()
    packaged: bool = False


def from_entry(name: str, details: Details, weights: Path | None, work: Path) -> LocalPrior:
    """From an entry: a YAML file, or a name of the registry.

    Args:
        name: what `prior_spec` takes.
        details: put over the entry.
        weights: a file to take instead of the one that the entry finds.
        work: folder for files made here.

    Raises:
        RegistryError: malformed, untrained, or under a name that is taken.
        WeightsError: weights out of reach, or not those of the entry.
    """
    spec = prior_spec(name)
    if spec.source == "callable":
        return _from_callable(spec, details, weights, work)
    if spec.source == "random":
        raise RegistryError(
            f"{spec.id!r} is untrained: there is nothing to publish", expected="a prior with weights",
            fix=f"anybody gets the same network by the name {spec.id!r}",
        )  # fmt: skip
    if weights is None and not details.changes_entry and any(one == spec for one in packaged_priors()):
        if not spec.pinned:
            raise RegistryError(
                f"the entry of {spec.id!r} does not say which weights made these rows",
                expected="a prior whose weights are pinned", got=f"sha256 {spec.sha256}",
                fix="publish the prior itself under a name of its own: --id NAME",
            )  # fmt: skip
        return LocalPrior(spec, None, frozenset(_known(spec.sha256)), packaged=True)
    fields = {**spec.model_dump(), **details.words()}
    if spec.preprocessing is not None:
        fields["preprocessing"] = details.preprocessing(spec.preprocessing).model_dump()
    if spec.source in ("timm", "hub") and weights is None:
        if not spec.pinned:
            raise RegistryError(
                f"the entry of {spec.id!r} does not say which weights are meant",
                expected="`revision`, a full commit, and `sha256` of the file",
                got=f"revision {spec.revision}, sha256 {spec.sha256}",
                fix="add them to the entry",
            )
        return LocalPrior(_named(fields, spec), None, frozenset(_known(spec.sha256)), details.base_model)
    fields |= {"source": "local", "repo": None, "revision": None, "package": None, "artefacts": {}}
    if spec.family == "external" and weights is None:
        return LocalPrior(_named(fields, spec), None, frozenset(_known(spec.sha256)), details.base_model)
    path = weights or find_weights(spec).path
    sha256 = verify_sha256(spec, path)
    checked = _named({**fields, "file": WEIGHTS_FILE, "sha256": sha256, "pin": "confirmed"}, spec)
    if spec.family != "external":
        load_into(checked, build(checked, device="meta"), read_weights(path), path)
    else:
        read_weights(path)
    base = details.base_model or spec.repo or (spec.origin.repo if spec.origin else None)
    return LocalPrior(checked, path, frozenset({sha256}), base)


def from_timm(name: str, details: Details, weights: Path | None) -> LocalPrior:
    """From a timm model: the weights that timm names, which stay where they are, or a file of the user's.

    Args:
        name: `architecture` with `weights`, `architecture.tag` without.
        details: at least a licence, with `weights`.
        weights: safetensors; must fit the architecture exactly, but for the classifier.

    Raises:
        RegistryError: timm has no such model, or facts are missing.
        WeightsError: a file that is unsafe or does not fit; no safetensors at timm's repository.
    """
    import timm

    architecture = name.split(".")[0]
    probe = make_spec({"id": "probe", "title": "probe", "source": "random", "licence": "not-applicable",
                       "architecture": architecture})  # fmt: skip
    build(probe, device="meta")
    with torch.device("meta"):
        try:
            shapes: nn.Module = timm.create_model(name, pretrained=False, num_classes=0).eval()
        except RuntimeError as error:
            raise RegistryError(
                f"timm {timm.__version__} has no weights {name!r}",
                expected=f"a tag of {', '.join(timm.list_pretrained(f'{architecture}.*')[:6]) or 'none'}",
                got=str(error),
            ) from error
        preprocessing = details.preprocessing(timm_preprocessing(shapes))
        dim = feature_dim(shapes, preprocessing.input_size, "meta")
    fields: dict[str, Any] = {
        "id": re.sub(r"[^a-z0-9._-]", "-", name.lower()),
        "title": f"{name} of timm",
        "architecture": architecture,
        "dim": dim,
        "preprocessing": preprocessing.model_dump(),
        **details.words(),
    }
    if weights is None:
        pinned = pin_timm_weights(name, shapes)
        fields = {**pinned, **fields}
        return LocalPrior(_free(make_spec(fields)), None, frozenset({pinned["sha256"]}), details.base_model)
    return _local(fields, weights, details.base_model)


def from_module(name: str, details: Details, weights: Path | None, work: Path) -> LocalPrior:
    """From `module:callable` of the user's, whose code is never published: only its weights and its artefacts are.

    Args:
        name: `package.module:callable`, of the current folder or the Python path, or `path/to/module.py:callable`.
        details: at least the input size.
        weights: a file whose tensors go into the network.
        work: folder for files made here.

    Raises:
        RegistryError: not importable, no network, or facts missing.
        WeightsError: `weights` don't fit the network exactly.
    """
    name, folder = _module_and_folder(name)
    spec = make_spec(
        {
            "id": re.sub(r"[^a-z0-9._-]", "-", name.replace(":", "-").lower()).strip("._-") or "module",
            "title": f"{name}, the author's own network",
            "source": "callable",
            "family": "callable",
            "architecture": name,
            "licence": "unstated",
            "preprocessing": details.preprocessing(None).model_dump(),
            **details.words(),
        }
    )
    return _from_callable(spec.found_in(folder), details, weights, work)


def _module_and_folder(name: str) -> tuple[str, Path]:
    """`module:callable` as an entry has it, and the folder of the module where it is told by its path."""
    module, colon, attribute = name.rpartition(":")
    path, folder = Path(module).expanduser(), Path.cwd()
    if module.endswith(".py") or len(path.parts) > 1:
        if not path.is_file():
            raise RegistryError(
                f"--module {name}: there is no such file", expected="path/to/module.py:callable", got=f"{path}",
                fix="check the path, or name an importable module: package.module:callable",
            )  # fmt: skip
        module, folder = path.stem, path.resolve().parent
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", f"{module}:{attribute}") or not colon:
        raise RegistryError(
            f"--module {name} names no function or class that returns the network",
            expected="package.module:callable, or path/to/module.py:callable", got=name,
        )  # fmt: skip
    return f"{module}:{attribute}", folder


def _from_callable(spec: PriorSpec, details: Details, weights: Path | None, work: Path) -> LocalPrior:
    assert spec.preprocessing is not None  # demanded of every such entry
    preprocessing = details.preprocessing(spec.preprocessing)
    network = own_network(spec) if weights is None else build(spec)
    if weights is not None:
        load_exactly(network, weights)
    dim = feature_dim(network, preprocessing.input_size)
    state = network.state_dict()
    fields = {
        **spec.model_dump(),
        **details.words(),
        "source": "local",
        "family": "external",
        "dim": dim,
        "preprocessing": preprocessing.model_dump(),
        "artefacts": {},
    }
    own = {**spec.model_dump(), **details.words(), "preprocessing": preprocessing.model_dump()}
    note = (
        f"Built by its author's own code, `{spec.architecture}`, which no repository of the Hub can run on your "
        "machine: train from its published embeddings."
    )
    fields["notes"] = (*(one for one in spec.notes if one != note), note)
    digest, path = state_digest(state), None
    digests = frozenset({digest})
    if state:
        path = work / WEIGHTS_FILE
        write_safetensors(path, state)
        sha256 = file_sha256(path)
        # Beside the local entry, too: code that initialises at random gives other weights each time.
        for one in (fields, own):
            one |= {"file": WEIGHTS_FILE, "sha256": sha256, "pin": "confirmed"}
        digests |= {sha256}
    local = make_spec(own)
    folder = spec.folder or Path.cwd()
    return LocalPrior(_named(fields, spec), path, digests, details.base_model, local.found_in(folder))


def from_checkpoint(path: Path, details: Details, work: Path) -> LocalPrior:
    """From a checkpoint of solo-learn or of the built-in host: the backbone, extracted strictly.

    The network that anybody builds from the entry is compared with the one that was trained, on the same input.

    Raises:
        WeightsError: see `read_backbone`; or the entry's network computes something else.
        RegistryError: facts missing, such as the licence.
    """
    backbone = read_backbone(path)
    known = Details(**backbone.preprocessing).preprocessing(None) if "input_size" in backbone.preprocessing else None
    preprocessing = details.preprocessing(known)
    file = work / WEIGHTS_FILE
    write_safetensors(file, backbone.network.state_dict())
    dim = feature_dim(backbone.network, preprocessing.input_size)
    fields = {
        "id": re.sub(r"[^a-z0-9._-]", "-", path.stem.lower()).strip("._-") or "backbone",
        "title": backbone.made_by[:1].upper() + backbone.made_by[1:],
        "dim": dim,
        "preprocessing": preprocessing.model_dump(),
        **backbone.fields,
        **details.words(),
    }
    source = _local(fields, file, details.base_model)
    rebuilt = load_into(source.spec, build(source.spec, device="meta"), read_weights(file), file)
    x = torch.randn(2, 3, *(preprocessing.input_size,) * 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, got = backbone.network(x), rebuilt(x)
    if wanted.shape != got.shape or not torch.allclose(wanted, got, rtol=1e-3, atol=1e-4):
        raise WeightsError(
            f"the network that others would build from this entry is not the one in {path}",
            expected="the same features for the same input",
            got=f"a difference of {float((wanted - got).abs().max()):.3g}" if wanted.shape == got.shape else
            f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}",
        )  # fmt: skip
    return source


def _local(fields: dict[str, Any], weights: Path, base_model: str | None) -> LocalPrior:
    """A prior of family timm whose weights are a file, checked to fit exactly."""
    read = read_weights(weights)
    probe = make_spec({"licence": "unstated", **fields, "source": "local", "file": WEIGHTS_FILE})
    load_into(probe, build(probe, device="meta"), read, weights)
    sha256 = verify_sha256(probe, weights)
    spec = make_spec(
        {"licence": "unstated", **fields, "source": "local", "file": WEIGHTS_FILE, "sha256": sha256, "pin": "confirmed"}
    )
    return LocalPrior(_free(spec), weights, frozenset({sha256}), base_model)


def _known(sha256: str | None) -> set[str]:
    return {sha256} if sha256 else set()


def _named(fields: dict[str, Any], spec: PriorSpec) -> PriorSpec:
    """The entry under its new fields; a packaged prior's aliases stay with it."""
    taken = {name for one in packaged_priors() for name in (one.id, *one.aliases)}
    aliases = tuple(name for name in spec.aliases if name not in taken and name != fields["id"])
    return _free(make_spec({**fields, "aliases": aliases, "artefacts": {}}))


def _free(spec: PriorSpec) -> PriorSpec:
    taken = {name: one.id for one in packaged_priors() for name in (one.id, *one.aliases)}
    if spec.id in taken:
        raise RegistryError(
            f"{spec.id!r} is the name of a prior of the registry: everybody who has rela-zoo would refuse yours",
            expected="a name of its own",
            got=spec.id,
            fix="--id NAME",
        )
    return spec
