"""The Hydra plugin: adds the config group `rela` to solo-learn, and wraps its methods.

Every Hydra program of the environment imports this module, so it imports nothing but Hydra, and does nothing in a
program that is not solo-learn's.
"""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class RelaZooSearchPathPlugin(SearchPathPlugin):
    """Hydra asks it for search paths before it composes; by then a script of solo-learn has made its own imports."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leaves the search path as it is: the group's entries live in Hydra's ConfigStore."""
        if "solo.methods" in sys.modules:
            from rela_zoo.errors import RelaZooError
            from rela_zoo.hosts.solo_learn import activate, refuse_arguments

            try:
                refuse_arguments(sys.argv[1:])
            except RelaZooError as error:
                # Hydra catches no error of a plugin: it would end in a traceback.
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2)
            activate()
