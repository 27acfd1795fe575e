"""Cards: the texts that describe a prior, its embeddings and the zoo, made from entries. Pure text, no network."""

from rela_zoo.hub.cards._card_head import HUB_TAGS, front_matter, model_metadata
from rela_zoo.hub.cards._data_files import ParquetFacts, card_head, read_data_files, with_data_files
from rela_zoo.hub.cards._dataset_card import DatasetFacts, dataset_card
from rela_zoo.hub.cards._from_results import measurements
from rela_zoo.hub.cards._measurements import Measurement, read_measured
from rela_zoo.hub.cards._model_card import CardContext, model_card
from rela_zoo.hub.cards._search_facts import PublishedRows, SearchFacts, facts_head, read_facts
from rela_zoo.hub.cards._zoo import make_cards, zoo_page

__all__ = [
    "HUB_TAGS",
    "CardContext",
    "DatasetFacts",
    "Measurement",
    "ParquetFacts",
    "PublishedRows",
    "SearchFacts",
    "card_head",
    "dataset_card",
    "facts_head",
    "front_matter",
    "make_cards",
    "measurements",
    "model_card",
    "model_metadata",
    "read_data_files",
    "read_facts",
    "read_measured",
    "with_data_files",
    "zoo_page",
]
