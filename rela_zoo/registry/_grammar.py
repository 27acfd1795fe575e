"""Names by the grammar of timm: `timm:NAME[@revision]` and `hf-hub:org/name[@revision]`, resolved to an entry."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rela_zoo._io.fields import sentence
from rela_zoo._io.log import logger
from rela_zoo._io.validation import validate
from rela_zoo.errors import HubError, RegistryError, SignatureError, UnknownPriorError
from rela_zoo.registry._spec import PriorSpec
from rela_zoo.registry._timm import arxiv_of, licence_of, plain_arguments, shapes, timm_preprocessing
from rela_zoo.remote import Contents, contents, fetch_file, is_commit, resolve_commit, trusted_signers

log = logger(__name__)

PREFIXES = ("timm:", "hf-hub:", "hf_hub:")
_NAME = re.compile(r"(timm|hf[-_]hub):([A-Za-z0-9][\w./-]*?)(?:@([A-Za-z0-9][\w.-]*))?")
# In this order; what else a repository holds is not guessed at.
_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
_CONFIG, _OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
_MAX_CONFIG_BYTES = 1 << 20
_said: set[str] = set()


def by_grammar(name: str) -> bool:
    """Whether a name is one of timm's grammar."""
    return name.startswith(PREFIXES)


def moves(name: str) -> bool:
    """Whether a name says no full commit, so that what it means may change.

    Examples:
        >>> moves("timm:resnet50.a1_in1k"), moves("hf-hub:org/name@main"), moves("clip-vit-b16")
        (True, True, False)
    """
    match = _NAME.fullmatch(_without_size(name))
    return match is not None and not is_commit(match[3])


def at_revision(name: str, commits: Mapping[str, str]) -> str:
    """A name that says no full commit, at the one that its repository has here; any other name as it is.

    Args:
        name: of a prior.
        commits: full commit by repository.
    """
    if not moves(name):
        return name
    plain = _without_size(name)
    try:
        parsed = _parse(plain)
        repo = parsed.name if parsed.kind != "timm" else _timm_config(parsed)[1]
    except RegistryError:
        return name  # whoever looks it up says what is wrong
    commit = commits.get(repo)
    return name if commit is None else f"{plain.partition('@')[0]}@{commit}{name[len(plain) :]}"


def _without_size(name: str) -> str:
    return re.sub(r"@\d{1,4}$", "", name)


@dataclass(frozen=True)
class _Name:
    """The parts of a name: `timm` or `hf-hub`, timm's name or a repository, and the revision if one is said."""

    kind: str
    name: str
    ref: str | None


def _parse(text: str) -> _Name:
    match = _NAME.fullmatch(text)
    kind = "" if match is None else match[1].replace("_", "-")
    repo = match is not None and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", match[2]) is not None
    if match is None or repo != (kind == "hf-hub") or ".." in text:
        raise UnknownPriorError(
            f"{text!r} names no prior", expected="timm:NAME[@revision], or hf-hub:org/name[@revision]", got=text[:200],
            fix="python -c 'import timm; print(timm.list_models(pretrained=True))' lists timm's names",
        )  # fmt: skip
    return _Name(kind, match[2] if kind == "hf-hub" else match[2].lower(), match[3])


def grammar_spec(text: str) -> PriorSpec:
    """The entry of a name, pinned to the commit that it means now.

    Where the name says no full commit, the one it is at now is said, once: a run writes it to its lock file.

    Args:
        text: `timm:NAME[@revision]`, a pretrained network of the installed timm; or `hf-hub:org/name[@revision]`, a
            repository with timm's `config.json`, or with OpenCLIP's and one of timm's networks as image tower.

    Raises:
        UnknownPriorError: no such name or repository, or it is out of reach.
        SignatureError: signatures are asked for; nothing but the Hub vouches for such a prior.
        RegistryError: no safetensors, or a network or preparation that can't be had here.
    """
    parsed = _parse(text)
    if trusted_signers() is not None:
        raise SignatureError(
            f"nobody whom you trust has signed what {text} is: its hash is the Hub's own word",
            expected="a prior whose entry came with this package, is a file of yours, or was published and signed",
            got="a name by timm's grammar", fix="write an entry with its sha256, and name that file",
        )  # fmt: skip
    config: dict[str, Any] | None = None
    repo = parsed.name
    if parsed.kind == "timm":
        config, repo = _timm_config(parsed)
    try:
        commit = resolve_commit(repo, parsed.ref, "model")
        held = contents(repo, commit, "model")
        file = _weights_file(repo, commit, held, config)
        if config is None:
            config = _config_of(repo, commit, held)
    except HubError as error:
        raise UnknownPriorError(
            f"the repository of {text!r} is not in reach: {error.what}", expected=error.expected, got=error.got,
            fix=error.fix,
        ) from error  # fmt: skip
    name = f"{parsed.kind}:{config['name'] if parsed.kind == 'timm' else repo}"
    spec = _spec(name, repo, commit, file, held, config)
    if not is_commit(parsed.ref) and text not in _said:
        _said.add(text)
        log.warning("%s is not pinned: today it is %s@%s; write that to stay with it", text, name, commit)
    return spec


def _timm_config(parsed: _Name) -> tuple[dict[str, Any], str]:
    """What the installed timm says of a pretrained network, and its repository."""
    import timm
    from timm.models import get_pretrained_cfg

    try:
        found = get_pretrained_cfg(parsed.name, allow_unregistered=False)
    except RuntimeError:  # an architecture that it has, with a tag that it has not
        found = None
    if found is None or not found.has_weights:
        near = difflib.get_close_matches(parsed.name, timm.list_models(pretrained=True), n=3)
        raise UnknownPriorError(
            f"timm {timm.__version__} has no pretrained network {parsed.name!r}",
            expected="a name from timm.list_models(pretrained=True)", got=parsed.name,
            fix=f"did you mean {', '.join(f'timm:{one}' for one in near)}?" if near else "update timm, if it is new",
        )  # fmt: skip
    if not found.hf_hub_id:
        raise RegistryError(
            f"timm has the weights of {parsed.name!r} only as a pickle",
            expected="a repository on the Hub with safetensors",
            got=str(found.url), fix="convert them where you trust them, and write an entry with `source: local`",
        )  # fmt: skip
    full = f"{found.architecture}.{found.tag}" if found.tag else str(found.architecture)
    config = {**found.to_dict(), "name": full, "file": found.hf_hub_filename}
    return {"architecture": found.architecture, "pretrained_cfg": config, "model_args": {}, "name": full}, str(
        found.hf_hub_id
    ).partition("@")[0]


def _weights_file(repo: str, commit: str, held: Contents, config: Mapping[str, Any] | None) -> str:
    named = (config or {}).get("pretrained_cfg", {}).get("file")
    wanted = [named] if named and str(named).endswith(".safetensors") else _WEIGHTS
    file = next((one for one in wanted if one in held.files), None)
    if file is None:
        there = sorted(
            one for one in held.files if one.endswith((".safetensors", ".bin", ".pth", ".pt", ".npz", ".json"))
        )
        raise RegistryError(
            f"{repo} at {commit[:12]} holds no weights that are read here",
            expected=f"{' or '.join(wanted)}: pickles are refused, and weights in several files are not put together",
            got=", ".join(there[:6]) or "none", fix="use a repository or a commit with such a file",
        )  # fmt: skip
    return str(file)


def _config_of(repo: str, commit: str, held: Contents) -> dict[str, Any]:
    """timm's configuration in a repository, or OpenCLIP's where its image tower is timm's."""
    found = _json(repo, commit, _CONFIG) if _CONFIG in held.files else {}
    if "architecture" in found:
        return found if "pretrained_cfg" in found else {"architecture": found["architecture"], "pretrained_cfg": found}
    tower = _json(repo, commit, _OPEN_CLIP_CONFIG) if _OPEN_CLIP_CONFIG in held.files else {}
    made = _of_open_clip(tower)
    if made is None:
        raise RegistryError(
            f"{repo} at {commit[:12]} is no repository of timm's", expected=f"{_CONFIG} with `architecture`, as timm "
            f"writes it, or {_OPEN_CLIP_CONFIG} with `timm_model_name`",
            got=", ".join(sorted(held.files)[:6]) or "none",
            fix="write an entry for it, with the architecture and preprocessing",
        )  # fmt: skip
    return made


def _of_open_clip(config: Mapping[str, Any]) -> dict[str, Any] | None:
    model = config.get("model_cfg")
    tower = model.get("vision_cfg") if isinstance(model, Mapping) else None
    prepared = config.get("preprocess_cfg") or {}
    if not isinstance(tower, Mapping) or "timm_model_name" not in tower or not isinstance(prepared, Mapping):
        return None
    size = tower.get("image_size", 224)
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    modes = {"shortest": "center", "squash": "squash"}
    mode = str(prepared.get("resize_mode", "shortest"))
    pool = tower.get("timm_pool") or ""
    return {
        "architecture": tower["timm_model_name"],
        "pretrained_cfg": {
            "input_size": (3, height, width),
            "crop_pct": 1.0,
            "crop_mode": modes.get(mode, mode),
            "interpolation": prepared.get("interpolation", "bicubic"),
            "mean": prepared.get("mean") or (0.48145466, 0.4578275, 0.40821073),
            "std": prepared.get("std") or (0.26862954, 0.26130258, 0.27577711),
        },
        "model_args": {"global_pool": pool} if pool in ("avg", "token", "map") else {},
    }


def _json(repo: str, commit: str, file: str) -> dict[str, Any]:
    path = fetch_file(repo, file, commit, "model", limit=_MAX_CONFIG_BYTES)
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        found = error
    if not isinstance(found, dict):
        raise RegistryError(
            f"{file} of {repo} at {commit[:12]} is malformed", expected="a JSON object", got=str(found)[:200],
            fix="tell its owner",
        )  # fmt: skip
    return found


def _spec(name: str, repo: str, commit: str, file: str, held: Contents, config: Mapping[str, Any]) -> PriorSpec:
    said: Any = config.get("pretrained_cfg")
    arguments: Any = config.get("model_args") or {}
    if not isinstance(said, Mapping) or not isinstance(arguments, Mapping):
        raise RegistryError(f"the configuration of {name} is malformed", expected="mappings", got=str(config)[:200])
    arguments = plain_arguments(arguments, name)
    said = dict(said)
    if "img_size" in arguments and said.get("fixed_input_size"):
        said["input_size"] = (3, arguments["img_size"], arguments["img_size"])
    try:
        preprocessing = timm_preprocessing(said, name)
    except (TypeError, ValueError, OverflowError) as error:
        raise RegistryError(
            f"the configuration of {name} is malformed", expected="timm's pretrained_cfg",
            got=" ".join(str(error).split())[:200], fix="tell the owner of the repository",
        ) from error  # fmt: skip
    stated = said.get("license") or held.licence
    licence, sha256 = licence_of(stated), held.files[file]
    notes = said.get("notes") or ()
    page = f"https://huggingface.co/{repo}/tree/{commit}"
    fields = {
        # Checked under a name of the registry's grammar; its own is put in below.
        "id": "by-grammar",
        "title": f"{config.get('name') or repo} by {'timm' if name.startswith('timm:') else 'its repository'}"[:120],
        "source": "timm" if repo.startswith("timm/") else "hub",
        "architecture": config.get("architecture"),
        "model_args": arguments,
        "dim": 1,
        "repo": repo,
        "revision": commit,
        "file": file,
        "sha256": sha256,
        "pin": "none" if sha256 is None else "confirmed",
        "licence": licence,
        "licence_link": page,
        "preprocessing": preprocessing.model_dump(),
        "arxiv": arxiv_of(said.get("paper_ids")),
        "notes": [
            *([f"Licence: {stated}, as timm or the repository's card names it."] if licence == "other" else []),
            "Features as timm pools them, without its classifier; preprocessing by its configuration.",
            *(f"timm: {one}" for one in ([notes] if isinstance(notes, str) else notes)),
        ],
    }
    spec, problems = validate(PriorSpec, fields)
    if spec is None or problems:
        raise RegistryError(
            f"the configuration of {name} makes no entry",
            got="; ".join(f"{one.key}: {sentence(one)}" for one in problems),
            fix="tell the owner of the repository, or write an entry of your own",
        )  # fmt: skip
    dim, dense = shapes(spec.architecture, spec.model_args, preprocessing.input_size)
    return spec.model_copy(update={"id": name, "dim": dim, "dense": dense})
