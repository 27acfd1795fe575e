"""Publishing a prior: checked here, sent in one atomic commit a repository, compared with what comes back, tagged."""

from rela_zoo.hub.publish._changes import Plan, Publication, RepoChange
from rela_zoo.hub.publish._details import Details
from rela_zoo.hub.publish._prepare import prepare
from rela_zoo.hub.publish._publisher import publish
from rela_zoo.hub.publish._send_index import SentIndex, send_index
from rela_zoo.hub.publish._signed_state import check_signers

__all__ = [
    "Details",
    "Plan",
    "Publication",
    "RepoChange",
    "SentIndex",
    "check_signers",
    "prepare",
    "publish",
    "send_index",
]
