"""Selection policies: which samples an epoch trains on, by the prior's embeddings and by training itself."""

from rela_zoo.selection._build import build_subset
from rela_zoo.selection._config import SelectionConfig, parse_selection, read_selection
from rela_zoo.selection.policies import POLICIES, Space

__all__ = ["POLICIES", "SelectionConfig", "Space", "build_subset", "parse_selection", "read_selection"]
