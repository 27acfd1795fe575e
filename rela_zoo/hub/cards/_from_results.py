"""Measured numbers out of the results file of a zoo, for the cards."""

from __future__ import annotations

from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.registry import ZooResults

_MEASURES = {
    "knn": "the prior itself, {neighbours}-NN",
    "probe": "the prior itself, linear probe",
    "few_label": "the prior itself, {per_class} labels a class, mean of {draws} draws",
}
_SEEN = {"labels": "; it has seen this data with its labels", "images": "; it has seen images of this data"}


def measurements(found: ZooResults, file: str) -> list[Measurement]:
    """The accuracies of a results file, as cards have them.

    Args:
        found: the results.
        file: where they are, as the card is to say it.
    """
    listed = []
    facts = found.data
    for name, one in found.priors.items():
        for key, words in _MEASURES.items():
            value = getattr(one, key)
            if value is None:
                continue
            listed.append(
                Measurement(
                    prior=name,
                    measure=words.format_map(found.settings.model_dump()),
                    data=f"{facts.title}, {facts.test_images:,} held out{_SEEN.get(one.seen, '')}",
                    value=value,
                    command=f"rela-zoo zoo build --priors {name} --datasets {facts.argument} --out OUT",
                    # A part of a data set, or one prepared in another way, gives no result of the Hub's data set.
                    results=file,
                    key=("priors", name, key),
                )
            )
    return listed
