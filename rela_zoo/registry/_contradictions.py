"""Fields of an entry that can't both be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rela_zoo._io.fields import Problems
from rela_zoo._io.text import printable
from rela_zoo.errors import Problem

if TYPE_CHECKING:
    from rela_zoo.registry._spec import PriorSpec

RANDOM_PREFIX = "random-"

# Arguments of timm's constructor that would read other files (pickles among them) or change what the entry says.
_RESERVED_ARGS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "exportable",
        "features_only",
        "in_chans",
        "model_name",
        "no_jit",
        "num_classes",
        "scriptable",
    }
)


class Findings(list[Problem]):
    """Problems of fields that contradict each other."""

    def demand(self, condition: bool, key: str, expected: str, got: str = "") -> None:
        """Note a problem of `key`, unless the condition holds."""
        if not condition:
            self.append(Problem(key, expected, got, ""))

    def raise_problems(self) -> None:
        """Raise `Problems` if there are any."""
        if self:
            raise Problems(self)


def is_safe_path(path: str) -> bool:
    """Whether a path leads to something below wherever it begins, on any system."""
    parts = re.split(r"[/\\]", path)
    return bool(path) and ":" not in path and not any(part in ("", ".", "..") for part in parts)


def check_weights(spec: PriorSpec, found: Findings) -> None:
    """Source, file and pin."""
    remote = spec.source in ("timm", "hub")
    if remote:
        found.demand(spec.repo is not None, "repo", f"org/name for source {spec.source}", "nothing")
    else:
        expected = f"none for source {spec.source}; where a file was published goes under `origin`"
        found.demand(spec.repo is None and spec.revision is None, "repo", expected)
    if spec.has_weights and spec.family != "external":
        found.demand(spec.file is not None, "file", f"the name of a safetensors file for source {spec.source}")
    if spec.source == "random":
        found.demand(spec.file is None and spec.sha256 is None, "file", "none for source random")
    if spec.file is not None:
        found.demand(is_safe_path(spec.file), "file", "a relative path without '..'", repr(spec.file))
        got = f"{spec.file!r}; weights in pickle files are never read: put those facts under `origin`"
        found.demand(spec.file.endswith(".safetensors"), "file", "a .safetensors file", got)
    known = "`none` exactly when sha256 is unknown, and `confirmed` or `third-party` when it is given"
    found.demand((spec.pin == "none") == (spec.sha256 is None), "pin", known)
    if spec.source in ("embedded", "package"):
        found.demand(spec.pin == "confirmed", "pin", "`confirmed` with a sha256 for weights inside a package")
    exactly = "a distribution, its version, a file and its sha256, exactly when source is `package`"
    found.demand((spec.source == "package") == (spec.package is not None), "package", exactly)


def check_network(spec: PriorSpec, found: Findings) -> None:
    """Family, architecture and what alters it; of families of other packages only what no family may."""
    exactly = "`callable` exactly when source is `callable`"
    found.demand((spec.source == "callable") == (spec.family == "callable"), "family", exactly)
    if spec.source == "callable":
        fits = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", spec.architecture) is not None
        found.demand(fits, "architecture", "module:callable", repr(spec.architecture))
    if spec.family == "cifar-resnet":
        depths = "|".join(str(6 * n + 2) for n in range(1, 19))
        fits = re.fullmatch(f"resnet({depths})", spec.architecture) is not None
        found.demand(fits, "architecture", "resnet<6n+2> up to 110", repr(spec.architecture))
        found.demand(spec.dim in (None, 64), "dim", "64 for a cifar-resnet", f"{spec.dim}")
    if spec.family == "timm":
        fits = re.fullmatch(r"[a-z0-9_]+", spec.architecture) is not None
        found.demand(fits, "architecture", "a timm architecture without tag", repr(spec.architecture))
    if spec.family == "external":
        found.demand(spec.source in ("local", "hub"), "source", "`local` or `hub` for family external", spec.source)
    reserved = sorted(key for key in spec.model_args if key in _RESERVED_ARGS or key.startswith("pretrained"))
    found.demand(not reserved, "model_args", "arguments that shape the network", ", ".join(reserved))
    if spec.family in ("cifar-resnet", "callable", "external"):
        found.demand(not spec.model_args, "model_args", f"none for family {spec.family}")
        found.demand(spec.stem == "imagenet", "stem", f"`imagenet` for family {spec.family}", spec.stem)
    open_ended = spec.source in ("random", "callable") or spec.family == "external"
    found.demand(spec.dim is not None or open_ended, "dim", "the number of features")
    own = spec.preprocessing is not None or spec.source == "random"
    found.demand(own, "preprocessing", "the prior's own preprocessing")


# Of blocks, layers, heads and the like: a network of more takes longer to build than anybody waits.
_MOST_PARTS = 1000
_LARGEST_ARGUMENT = 65536


def check_facts(spec: PriorSpec, found: Findings) -> None:
    """Licence, names, and what a terminal or a constructor is not to meet."""
    for key, text in _texts(spec.model_dump(mode="json")):
        found.demand(printable(text) == text, key, "text without control characters", repr(text)[:80])
    for key, value in spec.model_args.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            counted = any(part in key for part in ("depth", "layers", "blocks", "heads", "repeat"))
            most = _MOST_PARTS if counted else _LARGEST_ARGUMENT
            found.demand(abs(value) <= most, f"model_args.{key}", f"a number up to {most}", f"{value}")
    if spec.licence == "other":
        found.demand(spec.licence_link is not None, "licence_link", "a link for licence `other`")
    if spec.id.startswith(RANDOM_PREFIX):
        only = f"untrained networks under names beginning with {RANDOM_PREFIX!r}"
        found.demand(spec.source == "random", "id", only, f"source {spec.source}")
    found.demand(spec.id not in spec.aliases, "aliases", "names other than the id")
    found.demand(len(set(spec.aliases)) == len(spec.aliases), "aliases", "each once", f"{list(spec.aliases)}")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain data, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(name, key)
            yield from _texts(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)
