"""Reading YAML entries: safe, bounded, and reporting every problem of a file with the path of its field."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io.fields import sentence
from rela_zoo._io.validation import placed, validate
from rela_zoo.errors import Problem, RegistryError
from rela_zoo.registry._spec import PriorSpec

# An entry is a page of text; anything larger is a mistake or an attack.
MAX_BYTES = 64 * 1024
SUFFIXES = (".yaml", ".yml")
# The name of the entry file inside a repository of the Hub; it says nothing about the id.
HUB_ENTRY_FILE = "prior.yaml"


class EntryError(RegistryError):
    """One or more entries are wrong; `.problems` lists all of them as (file, field, message)."""

    def __init__(self, problems: list[tuple[Path, str, str]]) -> None:
        self.problems = problems
        files = len({path for path, _, _ in problems})
        lines = "\n".join(f"  - {path}: {field + ': ' if field else ''}{message}" for path, field, message in problems)
        super().__init__(
            f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in {files} registry "
            f"entr{'ies' if files != 1 else 'y'}:\n{lines}",
            fix="mend or remove the files named; `rela-zoo validate DIR` checks a folder of them",
        )


class _Strict:
    """Refuses duplicate keys, and aliases (an entry needs none, and they can blow up)."""

    def construct_mapping(self: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)  # type: ignore[misc]


class _StrictLoader(_Strict, yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "expected no YAML aliases (`*name`)", mark)
        return super().compose_node(parent, index)


# libyaml's, ten times as fast; where yaml was built without it there is the other one alone.
_FAST: Any = None
if hasattr(yaml, "CSafeLoader"):

    class _FastLoader(_Strict, yaml.CSafeLoader):
        pass

    _FAST = _FastLoader
_DEEPEST = 50  # mappings and lists within each other, where C code follows them


def parse_yaml(text: str) -> Any:
    """YAML → plain Python; raises `yaml.YAMLError` for duplicate keys, aliases, tags and syntax errors."""
    try:
        if _FAST is not None and _is_flat(text):
            return yaml.load(text, Loader=_FAST)  # a SafeLoader
    except yaml.YAMLError:
        pass  # the other loader says what is wrong, always in the same words
    return yaml.load(text, Loader=_StrictLoader)


def _is_flat(text: str) -> bool:
    """Whether there are no aliases in it, and nothing deeply nested."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            return False
    return True


def read_entry(path: Path, *, hub: tuple[str, str] | None = None) -> PriorSpec:
    """Read one entry.

    Args:
        path: a `.yaml` file; its stem must be the entry's id, unless it came from the Hub.
        hub: repository and commit the file came from. A repository can't know its own commit, so an entry that
            names no repository, or its own, gets these.

    Raises:
        EntryError: with every problem of the file.
    """
    problems: list[tuple[str, str]] = []
    raw = _raw(path, problems)
    spec: PriorSpec | None = None
    if raw is not None:
        if hub is not None:
            raw = {"source": "hub", **raw}
            if raw["source"] not in ("hub", "timm"):
                message = f"expected hub or timm: an entry from the network runs no code here, got {raw['source']!r}"
                raise EntryError([(path, "source", message)])
            if raw.get("repo") in (None, hub[0]):
                raw = {**raw, "repo": hub[0], "revision": raw.get("revision") or hub[1]}
            raw = _own_artefacts(raw, hub)
        if hub is None and path.name != HUB_ENTRY_FILE and "id" in raw and raw["id"] != path.stem:
            problems.append(("id", f"expected {path.stem!r}, the name of the file, got {raw['id']!r}"))
        spec, found = validate(PriorSpec, raw)
        problems.extend((one.key, _message(one)) for one in placed("", found))
    if problems or spec is None:
        raise EntryError([(path, field, message) for field, message in problems])
    return spec.found_in(path.parent)


def _own_artefacts(raw: dict[str, Any], hub: tuple[str, str]) -> dict[str, Any]:
    """Artefacts that name no repository lie beside the entry."""
    datasets = raw.get("artefacts")
    if not isinstance(datasets, dict):
        return raw

    def placed_here(place: Any) -> Any:
        named = not isinstance(place, dict) or "repo" in place or "revision" in place
        return place if named else {"repo": hub[0], "revision": hub[1], **place}

    def filled(kind: str, place: Any) -> Any:
        if kind == "to" and isinstance(place, dict):
            return {target: placed_here(one) for target, one in place.items()}
        return placed_here(place)

    found = {
        name: {kind: filled(kind, place) for kind, place in kinds.items()} if isinstance(kinds, dict) else kinds
        for name, kinds in datasets.items()
    }
    return {**raw, "artefacts": found}


def _raw(path: Path, problems: list[tuple[str, str]]) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(("", f"can't be read: {error.strerror or error}"))
        return None
    if len(data) > MAX_BYTES:
        problems.append(("", f"expected at most {MAX_BYTES} bytes, got more"))
        return None
    try:
        raw = parse_yaml(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        problems.append(("", f"expected UTF-8 text: {error.reason} at byte {error.start}"))
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        problems.append(("", f"not valid YAML: {message.replace('<unicode string>', path.name)}"))
        return None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        problems.append(("", f"expected a mapping of fields, got {type(raw).__name__}"))
        return None
    return raw


def _message(problem: Problem) -> str:
    """What a problem of a field says; what to do only where it is more than to write what was expected."""
    told = problem.fix.startswith(("did you mean", "write it in quotes"))
    return sentence(problem) + (f" ({problem.fix})" if told else "")


def read_folder(folder: Path) -> tuple[list[PriorSpec], list[tuple[Path, str, str]]]:
    """Read every entry of a folder, in order of file name.

    Returns:
        the good entries, and every problem as (file, field, message), names taken twice among them.
    """
    specs: list[PriorSpec] = []
    problems: list[tuple[Path, str, str]] = []
    owner: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        try:
            spec = read_entry(path)
        except EntryError as error:
            problems.extend(error.problems)
            continue
        for name in (spec.id, *spec.aliases):
            if name in owner:
                field = "id" if name == spec.id else "aliases"
                problems.append((path, field, f"{name!r} is already a name of {owner[name].name}"))
            else:
                owner[name] = path
        specs.append(spec)
    return specs, problems
