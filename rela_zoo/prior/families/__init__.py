"""Families of prior architectures, a file each; other packages add theirs by entry points `rela_zoo.priors`."""

from rela_zoo._io.plugins import Plugins
from rela_zoo._io.text import did_you_mean, listed
from rela_zoo._io.validation import placed
from rela_zoo.errors import RegistryError
from rela_zoo.prior.families._base import Family
from rela_zoo.registry import PriorSpec

FAMILIES = Plugins("family of priors", Family, __name__, "rela_zoo.priors")

__all__ = ["FAMILIES", "Family", "family_of"]


def family_of(spec: PriorSpec) -> Family:
    """Who builds the network of an entry.

    Raises:
        RegistryError: nobody here does, or the family can't make anything of the entry.
        PluginError: another package does, but is broken.
    """
    found = FAMILIES.find(spec.family)
    if found is None:
        near = did_you_mean(spec.family, FAMILIES)
        raise RegistryError(
            f"nothing here builds the networks of prior {spec.id!r}",
            expected=f"family {listed(FAMILIES)}",
            got=f"family {spec.family!r}",
            fix=f"did you mean {near}?" if near else "install the package that provides this family",
        )
    family = found()
    problems = placed("", family.check(spec))
    if problems:
        raise RegistryError(
            f"the entry of {spec.id!r} is none of family {spec.family!r}",
            got="\n            ".join(map(str, problems)),
        )
    return family
