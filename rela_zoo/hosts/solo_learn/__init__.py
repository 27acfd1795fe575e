"""The solo-learn plugin: priors by name in an unmodified solo-learn.

Tested against solo-learn 1.0.6 at commit 9187ea39, which is found at run time: it can't be a dependency, for the
package index has only an old release.
"""

from rela_zoo.hosts.solo_learn._activate import activate, is_active
from rela_zoo.hosts.solo_learn._compose import refuse_arguments
from rela_zoo.hosts.solo_learn._methods import SUPPORT

__all__ = ["SUPPORT", "activate", "is_active", "refuse_arguments"]
