"""What is wrong with a configuration as far as it shows without torch and Lightning, which take seconds to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rela_zoo._io.validation import placed, validate
from rela_zoo.data import is_there
from rela_zoo.errors import ConfigError, Problem, RelaZooError, UnknownPriorError
from rela_zoo.hosts.builtin._surroundings import missing_checkpoint, places
from rela_zoo.hosts.builtin.config import as_plain, fill_defaults
from rela_zoo.hosts.builtin.schema import HostConfig
from rela_zoo.hosts.builtin.sizes import contradictions
from rela_zoo.registry import PREFIXES, SELF, prior_spec


def check_early(cfg: Any) -> None:
    """Check names, numbers and paths of a configuration; `check` finds what is left.

    Args:
        cfg: a mapping or an OmegaConf configuration.

    Raises:
        ConfigError: with every problem found.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        whole = as_plain(fill_defaults(cfg))
    except OmegaConfBaseException:
        return  # `check` says what can't be resolved
    problems = placed("", validate(HostConfig, whole, lenient=True)[1])
    flawed = {one.key.partition(".")[0] for one in problems}
    problems += [] if flawed & {"image_size", "augmentations"} else contradictions(whole)
    if "data" not in flawed:
        problems += _missing_data(whole["data"])
    problems += missing_checkpoint(whole)
    if not flawed & {"data", "checkpoint"}:
        problems += places(whole)
    problems += _in_rela(whole.get("rela"))
    if problems:
        raise ConfigError(problems)


def _in_rela(section: Any) -> list[Problem]:
    """Misspelt priors, and a fraction of the data that is none; the engine checks the rest."""
    if not isinstance(section, Mapping):
        return []
    problems, ratio, priors = [], section.get("data_ratio", 0.2), section.get("prior")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        fix = "set rela.data_ratio=0.2 for a fifth of the data in each epoch"
        problems.append(Problem("rela.data_ratio", "a number in (0, 1]", repr(ratio), fix))
    for name in [priors] if isinstance(priors, str) else priors if isinstance(priors, list) else []:
        # Addresses are looked up where they are used.
        if not isinstance(name, str) or name == SELF or name.startswith(("hf:", "random-", *PREFIXES)):
            continue
        try:
            prior_spec(name)
        except UnknownPriorError as error:
            fix = error.fix or "see `rela-zoo list`"
            problems.append(Problem("rela.prior", "the name of a registered prior", repr(name), fix))
        except RelaZooError as error:
            problems.append(
                Problem("rela.prior", "a readable registry entry", error.what, error.fix or "mend the entry")
            )
    return problems


def _missing_data(data: dict[str, Any]) -> list[Problem]:
    problems = []
    for key in ("train_path", "val_path"):
        if data.get(key) is None or (key == "val_path" and data.get("no_labels")):
            continue
        if not is_there(str(data[key])):
            fix = f"set data.{key} to a folder or parquet file that exists"
            problems.append(Problem(f"data.{key}", "an existing path", str(Path(str(data[key])).expanduser()), fix))
    return problems
