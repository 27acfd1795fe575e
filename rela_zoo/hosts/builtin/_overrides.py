"""Overrides as people write them: paths with any signs in them, `rela=null`, sweeps, slips of the pen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rela_zoo._io.text import did_you_mean
from rela_zoo.errors import RelaZooError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Keys whose values are paths, names or addresses: taken as they are, whatever signs of Hydra's grammar are in them.
_AS_IT_IS = (
    "name", "data.train_path", "data.val_path", "checkpoint.dir", "resume_from_checkpoint",
    "rela.prior", "rela.embeddings", "rela.transport",
)  # fmt: skip
# Those of them that take a list: `rela.prior=[a,b]`.
_LISTS = ("rela.prior", "rela.embeddings", "rela.transport")


def quote_paths(overrides: list[str]) -> list[str]:
    """Overrides in which paths stand in quotes, so that `=`, `,`, `[` and blanks in them are part of the path.

    Raises:
        RelaZooError: an override without a value, or one that only a sweep could take.

    Examples:
        >>> quote_paths(["+resume_from_checkpoint=run/byol-ep=2.ckpt", "max_epochs=3"])
        ["+resume_from_checkpoint='run/byol-ep=2.ckpt'", 'max_epochs=3']
    """
    return [_quoted(override) for override in overrides]


def _quoted(override: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    if not key.strip("+~ "):
        raise RelaZooError(f"{override!r} is no override", expected="key=value, +key=value or ~key", got="no key")
    plain = value.strip() in ("", "null", "???") or value.strip()[:1] in ("'", '"')
    listed = key.lstrip("+") in _LISTS and re.fullmatch(r"\[.*\]", value.strip()) is not None
    if key.lstrip("+") in _AS_IT_IS and equals and not plain and not listed:
        escaped = value.replace("'", "\\'")
        return f"{key}='{escaped}'"
    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, ValueError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise RelaZooError(
            f"{override!r} is no override",
            expected="key=value, +key=value or ~key, in Hydra's grammar",
            got=said,
            fix=f"put the value in quotes: \"{key}='{value}'\"" if equals else "write KEY=VALUE",
        ) from None
    if parsed.is_sweep_override():
        raise _no_sweep(key.lstrip("+"), value.split(","))
    return override


def _no_sweep(key: str, values: list[str]) -> RelaZooError:
    some = " ".join(one.strip() for one in values) or "A B"
    return RelaZooError(
        f"{key} is given several values, and one command makes one run",
        expected="one value",
        got=", ".join(values),
        fix=f'for one in {some}; do rela-zoo pretrain … {key}="$one"; done   (a value with a comma goes into quotes)',
    )


def refuse_sweep(overrides: list[str]) -> None:
    """Say what stands in for Hydra's `-m` here.

    Raises:
        RelaZooError: always.
    """
    swept = next((one for one in overrides if "," in one), "rela=A,B")
    key, _, value = swept.partition("=")
    raise _no_sweep(key.lstrip("+"), value.split(","))


def without_prior(overrides: list[str]) -> tuple[list[str], bool]:
    """The overrides without `rela=null`, and whether it was there: it takes the section away, whoever brought it."""
    kept = [one for one in overrides if one.replace(" ", "").lstrip("+") not in ("rela=null", "~rela")]
    return kept, len(kept) < len(overrides)


def nearest_key(message: str, composed: Callable[[], DictConfig]) -> str | None:
    """The key that an override may have meant, from Hydra's message about it."""
    found = re.search(r"Could not override '([^']+)'", message)
    if found is None:
        return None
    from omegaconf import OmegaConf

    def keys(value: Any, prefix: str = "") -> Iterator[str]:
        for name, part in value.items():
            yield f"{prefix}{name}"
            if isinstance(part, dict):
                yield from keys(part, f"{prefix}{name}.")

    try:
        known = list(keys(OmegaConf.to_container(composed(), resolve=False)))
    except Exception:  # what is wrong with the file itself is in the message already
        return None
    wrong = found[1]
    near = did_you_mean(wrong, known, cutoff=0.75)
    # A key in the wrong section: `lr` for `optimizer.lr`.
    same = [key for key in known if key.rpartition(".")[2] == wrong.rpartition(".")[2]]
    return same[0] if len(same) == 1 else near
