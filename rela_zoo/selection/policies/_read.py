"""From a section of a configuration to a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rela_zoo._io.text import did_you_mean, listed
from rela_zoo._io.validation import validate
from rela_zoo.errors import PluginError, Problem
from rela_zoo.selection.policies._base import Policy


def read_policy(section: Any) -> tuple[Policy | None, list[Problem]]:
    """Check a policy by itself, whatever the size of an epoch.

    Args:
        section: the name of a policy, or a mapping with `name` and its options.

    Returns:
        The policy, or None, and every problem, with keys relative to `section`.
    """
    from rela_zoo.selection.policies import POLICIES

    if isinstance(section, str):
        section = {"name": section}
    name = section.get("name") if isinstance(section, Mapping) else None
    if not isinstance(name, str):
        expected = "the name of a policy, or a mapping with its name and options"
        fix = f"set {{key}}=uniform; known: {', '.join(POLICIES.names())}"
        return None, [Problem("", expected, repr(section), fix)]
    try:
        policy = POLICIES.find(name)
    except PluginError as error:
        return None, [Problem("", "a policy that can be used", f"{error.what}: {error.got}", str(error.fix))]
    if policy is None:
        near = did_you_mean(name, POLICIES.names())
        fix = f"did you mean {near}?" if near else "set {key}=uniform"
        return None, [Problem("", listed(POLICIES.names()), repr(name), fix)]
    options, problems = validate(policy.Options, {key: section[key] for key in section if key != "name"})
    return (None if options is None else policy(options)), problems
