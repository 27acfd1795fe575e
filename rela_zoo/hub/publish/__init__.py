"""Publishing a prior: checked here, sent in one atomic commit a repository, compared with what comes back, tagged."""

from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._publish import Plan, Publication, prepare, publish

__all__ = ["Details", "Plan", "Publication", "prepare", "publish"]
