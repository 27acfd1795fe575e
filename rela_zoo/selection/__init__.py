"""Selection policies: which samples an epoch trains on, by the prior's embeddings and by training itself."""

from rela_zoo.selection._build import Space, build_subset
from rela_zoo.selection._config import POLICIES, SelectionConfig, parse_selection

__all__ = ["POLICIES", "SelectionConfig", "Space", "build_subset", "parse_selection"]
