"""The method wrapper: one subclass for any method class of a host, no copy of any method."""

from rela_zoo.engine._artefacts import resolve_targets
from rela_zoo.engine._loader import subset_sampler
from rela_zoo.engine._preflight import preflight
from rela_zoo.engine._published import fetch_for_run
from rela_zoo.engine._selection import run_subset
from rela_zoo.engine._wrapper import with_rela

__all__ = ["fetch_for_run", "preflight", "resolve_targets", "run_subset", "subset_sampler", "with_rela"]
