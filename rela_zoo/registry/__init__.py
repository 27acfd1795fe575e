"""The registry: one YAML entry a prior, found by name. Reading it needs no deep-learning library."""

from rela_zoo.registry._grammar import PREFIXES, at_revision, by_grammar, moves
from rela_zoo.registry._hub_index import (
    HUB_ENTRY_FILE,
    INDEX_FILE,
    INDEX_VARIABLE,
    index_document,
    index_embeddings,
    index_names,
)
from rela_zoo.registry._lookup import list_priors, packaged_priors, prior_spec, user_priors
from rela_zoo.registry._read import SUFFIXES, EntryError, parse_yaml, read_entry, read_folder
from rela_zoo.registry._spec import (
    NAME_PATTERN,
    SELF,
    Artefacts,
    Between,
    Dense,
    HubFolder,
    Licence,
    Origin,
    PackageFile,
    Pin,
    Preprocessing,
    PriorSpec,
    Source,
)
from rela_zoo.registry._timm import shapes, timm_preprocessing

__all__ = [
    "HUB_ENTRY_FILE",
    "INDEX_FILE",
    "INDEX_VARIABLE",
    "NAME_PATTERN",
    "PREFIXES",
    "SELF",
    "SUFFIXES",
    "Artefacts",
    "Between",
    "Dense",
    "EntryError",
    "HubFolder",
    "Licence",
    "Origin",
    "PackageFile",
    "Pin",
    "Preprocessing",
    "PriorSpec",
    "Source",
    "at_revision",
    "by_grammar",
    "index_document",
    "index_embeddings",
    "index_names",
    "list_priors",
    "moves",
    "packaged_priors",
    "parse_yaml",
    "prior_spec",
    "read_entry",
    "read_folder",
    "shapes",
    "timm_preprocessing",
    "user_priors",
]
