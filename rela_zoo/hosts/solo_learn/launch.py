"""Runs one of solo-learn's scripts with the plugin active, whether or not Hydra discovers it.

`rela-zoo run` starts this file as a program. Lightning starts the other processes of a DDP run by `sys.argv`, whose
first entry is this file still, so that they take the same way; the script's name comes to them by the environment.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

SCRIPT_VARIABLE = "RELA_ZOO_SCRIPT"


def run_as_main(script: Path) -> None:
    """Execute a script as `__main__`, leaving `sys.argv` alone, which runpy would point at the script."""
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    exec(compile(script.read_bytes(), str(script), "exec"), module.__dict__)


def main() -> None:
    """Activate the plugin, then run the script as `python SCRIPT ARGS…` would."""
    script = Path(os.environ[SCRIPT_VARIABLE])
    # Python has put this file's own folder first (unless told not to); a script expects its own there.
    own = str(Path(__file__).resolve().parent)
    sys.path[:] = [str(script.parent), *(place for place in sys.path if place != own)]
    from rela_zoo._io.debug import debugging
    from rela_zoo.errors import RelaZooError
    from rela_zoo.hosts.solo_learn import activate, refuse_arguments
    from rela_zoo.hosts.solo_learn.find import require_solo_learn

    # Hydra would print a mistake in a configuration below a traceback; this lets it come here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        refuse_arguments(sys.argv[1:])
        require_solo_learn(script)
        activate()
        run_as_main(script)
    except RelaZooError as error:
        if debugging():
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
