"""Priors that others have published: repositories of the Hub with this project's tag, and the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rela_zoo.hub.cards import PublishedRows, read_facts
from rela_zoo.registry import index_names, packaged_priors
from rela_zoo.remote import client, with_retries

TAG = "rela-prior"
_MOST = 1000  # the Hub itself looks for words in names only, so the words are looked for here


@dataclass(frozen=True)
class Found:
    """A published prior.

    Attributes:
        repo: repository on the Hub.
        name: what to write in a config: a name of the index, or an address at the newest commit.
        licence: by the repository's own card; None if it does not say.
        downloads: in the last 30 days.
        modified: day of the last change, ISO.
        flags: what to think of before using it.
        title: one line; empty where its card has none of ours.
        dim: features an image, where the card says it.
        datasets: whose embeddings are published, with rows and bytes.
    """

    repo: str
    name: str
    licence: str | None
    downloads: int
    modified: str
    flags: tuple[str, ...]
    title: str = ""
    dim: int | None = None
    datasets: Mapping[str, PublishedRows] = field(default_factory=dict)

    def matches(self, query: str | None) -> bool:
        """Whether each word is in the name, the repository, the title or the name of a data set."""
        text = " ".join([self.name, self.repo, self.title, *self.datasets]).lower()
        return all(word in text for word in (query or "").lower().split())


def search(query: str | None = None, *, limit: int = 50) -> list[Found]:
    """Repositories tagged `rela-prior`, most downloaded first.

    Args:
        query: words in the name, the repository, the title or the names of data sets.
        limit: at most so many.

    Raises:
        HubError: the Hub is out of reach.
    """
    models = with_retries(
        lambda: list(client().list_models(filter=TAG, limit=_MOST, sort="downloads", full=True, cardData=True)),
        "the Hub can't be searched",
    )
    packaged = {name for spec in packaged_priors() for name in (spec.id, *spec.aliases)}
    indexed = {repo: name for name, (repo, _) in index_names().items()}
    found = []
    for model in models:
        licences = [tag.split(":", 1)[1] for tag in model.tags or () if tag.startswith("license:")]
        short = model.id.split("/")[-1].lower()
        flags = []
        if not licences or licences[0] in ("unknown", "other"):
            flags.append("licence unclear")
        if model.sha is None:
            flags.append("unpinned")
        if short in packaged and model.id not in indexed:
            flags.append("has the name of a packaged prior")
        if model.private:
            flags.append("private")
        if getattr(model, "gated", False):
            flags.append("gated")
        name = indexed.get(model.id) or (f"hf://{model.id}@{model.sha}" if model.sha else model.id)
        modified = model.last_modified.date().isoformat() if model.last_modified else ""
        licence = licences[0] if licences else None
        facts = read_facts(model.card_data.to_dict() if model.card_data else {})
        found.append(
            Found(
                model.id, name, licence, model.downloads or 0, modified, tuple(flags), facts.title, facts.dim,
                facts.datasets,
            )
        )  # fmt: skip
    return [one for one in found if one.matches(query)][:limit]
