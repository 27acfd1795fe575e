"""From a name to an entry: explicit path, user directory, packaged registry; `random-*` and `hf://` by grammar."""

from __future__ import annotations

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path

from rela_zoo import paths
from rela_zoo.errors import RegistryError, UnknownPriorError
from rela_zoo.registry._read import HUB_ENTRY_FILE, SUFFIXES, EntryError, read_entry, read_folder
from rela_zoo.registry._spec import RANDOM_PREFIX, PriorSpec

_HUB_NAME = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@([0-9a-f]{40})")

_Problems = tuple[tuple[Path, str, str], ...]


@lru_cache(maxsize=32)
def _read_cached(folder: Path, state: tuple[tuple[str, int, int], ...]) -> tuple[tuple[PriorSpec, ...], _Problems]:
    specs, problems = read_folder(folder)
    return tuple(specs), tuple(problems)


def _read(folder: Path) -> tuple[tuple[PriorSpec, ...], _Problems]:
    """Entries of a folder, read again only when a file of it changed."""
    if not folder.is_dir():
        return (), ()
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.name.endswith(SUFFIXES)]
        state = tuple(sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in files))
    return _read_cached(folder, state)


def packaged_priors() -> tuple[PriorSpec, ...]:
    """The entries shipped with the package.

    Raises:
        RegistryError: if the registry is missing or damaged.
    """
    folder = paths.packaged_registry()
    specs, problems = _read(folder)
    if problems:
        raise EntryError(list(problems))
    if not specs:
        raise RegistryError(
            "the packaged registry is missing",
            expected=f"YAML entries in {folder}",
            fix="reinstall rela-zoo: pip install --force-reinstall rela-zoo",
        )
    return specs


def user_priors() -> tuple[PriorSpec, ...]:
    """The user's own entries.

    Raises:
        RegistryError: for malformed entries, and for one that takes a name of the packaged registry: the same name
            must mean the same prior on every machine.
    """
    folder = paths.user_registry()
    specs, problems = _read(folder)
    found = [*problems, *(clash for spec in specs for clash in _clashes(spec, folder / f"{spec.id}.yaml"))]
    if found:
        raise EntryError(found)
    return specs


def _clashes(spec: PriorSpec, path: Path) -> list[tuple[Path, str, str]]:
    """Names of a private entry that the packaged registry has already."""
    taken = {name: known.id for known in packaged_priors() for name in (known.id, *known.aliases)}
    return [
        (
            path,
            "id" if name == spec.id else "aliases",
            f"{name!r} names the packaged prior {taken[name]!r}; choose another",
        )
        for name in (spec.id, *spec.aliases)
        if name in taken
    ]


def list_priors() -> list[PriorSpec]:
    """Every entry in reach without a network: the packaged ones and the user's own, sorted by id.

    Raises:
        RegistryError: if an entry is malformed or takes the name of another.
    """
    return sorted((*packaged_priors(), *user_priors()), key=lambda spec: spec.id)


def prior_spec(name: str | os.PathLike[str]) -> PriorSpec:
    """Find an entry.

    Args:
        name: an id or alias; a path to a `.yaml` entry; `random-<timm architecture>`; `hf://org/name@<40-hex commit>`.

    Returns:
        the entry. That of `random-<timm architecture>` has no `dim` and no `preprocessing`: only timm knows them, so
        `load_prior` fills them in.

    Raises:
        UnknownPriorError: if no source knows the name; the message has the nearest names.
        RegistryError: if the entry is malformed, or takes the name of a packaged one.
    """
    text = os.fspath(name)
    if text.startswith("hf:"):
        return _from_hub_cache(text)
    if text.endswith(SUFFIXES) or "/" in text or os.sep in text:
        return _from_path(Path(text).expanduser())
    known = list_priors()
    wanted = text.strip().lower()
    for spec in known:
        if wanted == spec.id or wanted in spec.aliases:
            return spec
    if wanted.startswith(RANDOM_PREFIX):
        return random_spec(wanted)
    raise _unknown(text, known)


def random_spec(name: str) -> PriorSpec:
    """The entry of an untrained network, `random-<timm architecture>`; that timm has it is checked when loading.

    Raises:
        UnknownPriorError: if what follows the prefix can't be a timm architecture.
    """
    architecture = name.removeprefix(RANDOM_PREFIX)
    if re.fullmatch(r"[a-z0-9][a-z0-9_]{1,79}", architecture) is None:
        raise UnknownPriorError(
            f"{name!r} names no untrained network",
            expected="random-<timm architecture>, without tag, such as random-resnet50",
            fix="python -c 'import timm; print(timm.list_models())' lists the architectures",
        )
    return PriorSpec(
        id=name,
        title=f"Untrained {architecture}",
        source="random",
        architecture=architecture,
        licence="not-applicable",
        training_data="none",
        arxiv=("2405.14669",),
        notes=("dim, input size and normalisation are those of timm's architecture; they are filled in when loading.",),
    )


def _from_path(path: Path) -> PriorSpec:
    if path.suffix not in SUFFIXES:
        raise UnknownPriorError(
            f"{str(path)!r} is neither a prior's name nor a YAML entry",
            expected="a name from `rela-zoo list`, a path to a .yaml file, or hf://org/name@<40-hex commit>",
        )
    if not path.is_file():
        raise UnknownPriorError(f"there is no registry entry at {path}", expected="a YAML file", got="nothing there")
    spec = read_entry(path)
    packaged = paths.packaged_registry()
    if path.resolve().parent != packaged.resolve():
        clashes = _clashes(spec, path)
        if clashes:
            raise EntryError(clashes)
    return spec


def _from_hub_cache(name: str) -> PriorSpec:
    """The entry of a repository of the Hub at one commit, if the Hub's cache on this machine has it."""
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise RegistryError(
            "a prior on the Hub is named by repository and full commit",
            expected="hf://org/name@<40 hexadecimal digits, lower case>",
            got=name,
            fix="copy the full commit from the repository's history; branches and tags can move",
        )
    repo, revision = match.groups()
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repo, HUB_ENTRY_FILE, revision=revision)
    if not isinstance(cached, str):
        raise UnknownPriorError(
            f"the entry of {name} is not on this machine",
            expected=f"{HUB_ENTRY_FILE} of {repo} at commit {revision} in the Hub's cache",
            got="no such file there",
            fix=f"hf download {repo} {HUB_ENTRY_FILE} --revision {revision}",
        )
    path = Path(cached)
    spec = read_entry(path, hub=(repo, revision))
    clashes = _clashes(spec, path)
    if clashes:
        raise EntryError(clashes)
    return spec


def _unknown(name: str, known: list[PriorSpec]) -> UnknownPriorError:
    names = {alias: spec.id for spec in known for alias in (spec.id, *spec.aliases)}
    near = difflib.get_close_matches(name.lower(), names, n=6, cutoff=0.5)
    # An alias is shown with what it stands for; the same prior once.
    shown: dict[str, str] = {}
    for one in near:
        shown.setdefault(names[one], one if one == names[one] else f"{one} ({names[one]})")
    return UnknownPriorError(
        f"no prior is named {name!r}",
        expected="a name from `rela-zoo list`, a path to a .yaml entry, random-<timm architecture>, or hf://org/name@<commit>",
        got=name,
        fix=f"did you mean {', '.join(list(shown.values())[:3])}?" if shown else "`rela-zoo list` shows all names",
    )
