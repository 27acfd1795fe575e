"""Making an unmodified solo-learn know `rela`: shared by the Hydra plugin and the launcher."""

from __future__ import annotations

import sys

from rela_zoo.hosts.config_group import register_rela_group
from rela_zoo.hosts.solo_learn._methods import NOT_METHODS


def activate() -> None:
    """Add the config group `rela`, wrap the entries of `solo.methods.METHODS`, and make AutoResumer compare `rela`.

    Changes solo-learn's objects in this process only, in place, so that scripts which have imported them already see
    it. A second call changes nothing. The wrapped classes behave as the originals in a configuration without `rela`.

    Raises:
        ImportError: if solo-learn is not importable.
    """
    import solo.methods

    from rela_zoo.hosts.contract import with_rela
    from rela_zoo.hosts.solo_learn._host import SoloLearn, make_resumer_compare_rela

    register_rela_group()
    methods = solo.methods.METHODS
    for name, method in list(methods.items()):
        if name not in NOT_METHODS:
            methods[name] = with_rela(method, SoloLearn())
    make_resumer_compare_rela()


def is_active() -> bool:
    """Whether `activate` has done its work in this process."""
    methods = getattr(sys.modules.get("solo.methods"), "METHODS", {})
    if not methods:
        return False
    from rela_zoo.hosts.contract import RelaMixin

    wrapped = [issubclass(method, RelaMixin) for name, method in methods.items() if name not in NOT_METHODS]
    return bool(wrapped) and all(wrapped)
