"""From a name to an entry: explicit path, user directory, packaged registry; other names by their grammar."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from functools import lru_cache
from pathlib import Path

from rela_zoo._io import paths
from rela_zoo._io.install import install_command
from rela_zoo._io.log import logger
from rela_zoo.errors import HubError, RegistryError, SignatureError, UnknownPriorError
from rela_zoo.registry._contradictions import RANDOM_PREFIX
from rela_zoo.registry._grammar import by_grammar, grammar_spec
from rela_zoo.registry._hub_index import hub_entry_file, index_place
from rela_zoo.registry._read import HUB_ENTRY_FILE, SUFFIXES, EntryError, read_entry, read_folder
from rela_zoo.registry._spec import PriorSpec
from rela_zoo.remote import parse_address

log = logger(__name__)

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
            fix=f"reinstall rela-zoo: {install_command()}",
        )
    return specs


def user_priors() -> tuple[PriorSpec, ...]:
    """The user's own entries, without those that are wrong: of these a warning says what to mend.

    Wrong is also one that takes a name of the packaged registry: the same name must mean the same prior on every
    machine.
    """
    good, found = _sorted_out()
    if found:
        _say_once(f"entries of your own registry are left out: {EntryError(found)}")
    return good


@lru_cache(maxsize=32)
def _say_once(message: str) -> None:
    log.warning(message)


def _sorted_out() -> tuple[tuple[PriorSpec, ...], list[tuple[Path, str, str]]]:
    """The user's entries that are right, and what is wrong with the others."""
    folder = paths.user_registry()
    specs, problems = _read(folder)
    clashes = {spec.id: _clashes(spec, folder / f"{spec.id}.yaml") for spec in specs}
    good = tuple(spec for spec in specs if not clashes[spec.id])
    return good, [*problems, *(clash for found in clashes.values() for clash in found)]


def _refuse_wrong_entry(name: str) -> None:
    """Refuse a name whose own entry is wrong, or of which two entries disagree.

    Raises:
        EntryError: with what is wrong with it.
    """
    own = [one for one in _sorted_out()[1] if one[0].stem == name]
    if own:
        raise EntryError(own)


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

    One of the user's that is malformed, or takes the name of another, is left out, and a warning says so.

    Examples:
        >>> from rela_zoo import list_priors
        >>> [spec.id for spec in list_priors() if spec.source == "embedded"]
        ['cifar10-resnet20']
    """
    return sorted((*packaged_priors(), *user_priors()), key=lambda spec: spec.id)


def prior_spec(name: str | os.PathLike[str]) -> PriorSpec:
    """Find an entry.

    Args:
        name: an id or alias; a path to a `.yaml` entry; `random-<timm architecture>`; `hf://org/name@<40-hex commit>`;
            `timm:NAME[@revision]`, any pretrained network of the installed timm; `hf-hub:org/name[@revision]`, a
            repository with timm's configuration. Of the last two the commit is looked up, and said, if it is not in the
            name. A name followed by `@` and a number of pixels is that prior fed images of that size.

    Returns:
        the entry. That of `random-<timm architecture>` has no `dim` and no `preprocessing`: only timm knows them, so
        `load_prior` fills them in.

    Raises:
        UnknownPriorError: no source knows the name; the message has the nearest names.
        RegistryError: the entry is malformed, or takes the name of a packaged one.

    Examples:
        >>> from rela_zoo import prior_spec
        >>> spec = prior_spec("clip_b16")  # an alias
        >>> spec.id, spec.dim, spec.licence
        ('clip-vit-b16', 512, 'apache-2.0')
    """
    text = os.fspath(name)
    if text.startswith("hf:"):
        return _from_address(text)
    if by_grammar(text.strip()):
        sized = re.fullmatch(r"(.+)@(\d{1,4})", text.strip())
        return at_size(grammar_spec(sized[1]), int(sized[2])) if sized else grammar_spec(text.strip())
    if text.endswith(SUFFIXES) or "/" in text or os.sep in text:
        return _from_path(Path(text).expanduser())
    known = list_priors()
    wanted = text.strip().lower()
    if sized := re.fullmatch(r"(.+)@(\d{1,4})", wanted):
        return at_size(prior_spec(sized[1]), int(sized[2]))
    _refuse_wrong_entry(wanted)
    for spec in known:
        if wanted == spec.id or wanted in spec.aliases:
            return spec
    if wanted.startswith(RANDOM_PREFIX):
        return random_spec(wanted)
    return _from_index(wanted, _unknown(text, known))


def at_size(spec: PriorSpec, size: int) -> PriorSpec:
    """The entry of a prior that is fed images of another size: smaller ones embed faster, and see less.

    The share of the resized image that is cropped stays. It is another prior, with embeddings of its own, named
    `<id>@<size>`. Convolutional networks take any size; others say so when they are loaded.

    Args:
        spec: the prior's own entry.
        size: side of the network's input, in pixels.

    Raises:
        UnknownPriorError: the size can't be, or the entry does not say how its images are prepared.
    """
    own = spec.preprocessing
    if own is None or not 8 <= size <= 4096:
        got = f"{spec.id}@{size}"
        fix = "name a size in [8, 4096], of an entry with `preprocessing`"
        raise UnknownPriorError(f"{got!r} names no prior", expected="<name>@<pixels>", got=got, fix=fix)
    resize = max(size, round(own.resize * size / own.input_size))
    preprocessing = own.model_copy(update={"input_size": size, "resize": resize})
    dense = spec.dense
    if dense is not None:
        cells, rest = divmod(dense.grid * size, own.input_size)
        dense = None if rest else dense.model_copy(update={"grid": cells})
    # What an image costs is another number, too, which whoever can build the network counts.
    gone: dict[str, object] = {"aliases": (), "artefacts": {}, "gmacs": None}
    return spec.model_copy(update={"id": f"{spec.id}@{size}", "preprocessing": preprocessing, "dense": dense, **gone})


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
            expected="a name from `rela-zoo list`, a path to a .yaml file, timm:NAME, hf-hub:org/name, or "
            "hf://org/name@<40-hex commit>",
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


def _from_address(name: str) -> PriorSpec:
    """The entry `hf://org/name@<commit>`."""
    try:
        place = parse_address(name)
    except HubError as error:
        raise RegistryError(
            "a prior on the Hub is named by repository and full commit",
            expected="hf://org/name@<40 hexadecimal digits, lower case>",
            got=name,
            fix="copy the full commit from the repository's history; branches and tags can move",
        ) from error
    if place.path:
        raise RegistryError("a prior on the Hub is a whole repository", expected="no path behind the commit", got=name)
    return _hub_spec(place.repo, place.revision)


def _hub_spec(repo: str, revision: str) -> PriorSpec:
    try:
        path = hub_entry_file(repo, revision)
    except SignatureError:
        raise  # it is in reach, and refused
    except HubError as error:
        raise UnknownPriorError(
            f"the entry of hf://{repo}@{revision} is not in reach: {error.what}",
            expected=f"{HUB_ENTRY_FILE} of {repo} at commit {revision}",
            got=error.got,
            fix=f"{error.fix}\n            by hand: hf download {repo} {HUB_ENTRY_FILE} --revision {revision}",
        ) from error
    spec = read_entry(path, hub=(repo, revision))
    clashes = _clashes(spec, path)
    if clashes:
        raise EntryError(clashes)
    return spec


def _from_index(name: str, unknown: UnknownPriorError) -> PriorSpec:
    """An entry that was published after this installation; asked for last, so it can take no name of another source.

    Raises:
        UnknownPriorError: `unknown`, if the index does not have it either, or can't be asked.
        RegistryError: the index leads to an entry of another name.
    """
    try:
        place = index_place(name)
    except HubError as error:
        raise UnknownPriorError(
            unknown.what, expected=unknown.expected, got=f"{unknown.got} (the index could not be asked: {error.got})",
            fix=unknown.fix,
        ) from error  # fmt: skip
    if place is None:
        raise unknown
    spec = _hub_spec(*place)
    if spec.id != name:
        raise RegistryError(
            f"the index leads from {name!r} to another prior", expected=f"id: {name}", got=f"id: {spec.id}",
            fix="tell the owner of the index",
        )  # fmt: skip
    doubts = [
        *(["its weights are not pinned by hash and commit"] if not spec.pinned else []),
        *(["it states no licence"] if spec.licence == "unstated" else []),
    ]
    if doubts:
        warnings.warn(f"prior {name!r} of the index {place[0]}: {' and '.join(doubts)}", stacklevel=3)
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
        expected="a name from `rela-zoo list`, a path to a .yaml entry, random-<timm architecture>, timm:NAME, "
        "hf-hub:org/name, or hf://org/name@<commit>",
        got=name,
        fix=f"did you mean {', '.join(list(shown.values())[:3])}?" if shown else "`rela-zoo list` shows all names",
    )
