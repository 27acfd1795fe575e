"""BibTeX of a prior's paper, from what its entry says."""

from __future__ import annotations

import re

from rela_zoo.registry._spec import PriorSpec

# "Oquab et al. 2023, DINOv2: Learning …", as entries cite.
_CITATION = re.compile(r"(?P<authors>[^,\d]+) (?P<year>(?:19|20)\d\d), (?P<title>[^{}\\]+)")
_PLACE = re.compile(r", section [\d.]+$")
_SPECIAL = re.compile(r"([&%#$_])")


def bibtex(spec: PriorSpec) -> str | None:
    """An entry for a bibliography; None where the prior's own does not name authors, year, title and a paper on arXiv.

    Examples:
        >>> from rela_zoo.registry import prior_spec
        >>> print(bibtex(prior_spec("clip-vit-b16")))
        @misc{radford2021learning,
          author        = {Radford and others},
          title         = {{Learning Transferable Visual Models From Natural Language Supervision}},
          year          = {2021},
          eprint        = {2103.00020},
          archivePrefix = {arXiv}
        }
    """
    found = _CITATION.fullmatch(_PLACE.sub("", spec.citation.rstrip(".")))
    if found is None or not spec.arxiv:
        return None
    words = re.findall(r"[a-z0-9]+", found["title"].lower())
    first = re.sub(r"[^a-z]", "", found["authors"].lower().split()[0])
    key = "".join([first, found["year"], *words[:1]])
    authors = found["authors"].replace(" et al.", " and others")
    fields = {
        "author": f"{{{_escaped(authors)}}}",
        "title": f"{{{{{_escaped(found['title'])}}}}}",
        "year": f"{{{found['year']}}}",
        "eprint": f"{{{spec.arxiv[0]}}}",
        "archivePrefix": "{arXiv}",
    }
    return f"@misc{{{key},\n" + ",\n".join(f"  {name:13} = {value}" for name, value in fields.items()) + "\n}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
