"""Priors that others have published: repositories of the Hub with this project's tag, and the index."""

from __future__ import annotations

from dataclasses import dataclass

from rela_zoo.registry import index_names, packaged_priors
from rela_zoo.remote import client, with_retries

TAG = "rela-prior"


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
    """

    repo: str
    name: str
    licence: str | None
    downloads: int
    modified: str
    flags: tuple[str, ...]


def search(query: str | None = None, *, limit: int = 50) -> list[Found]:
    """Repositories tagged `rela-prior`, most downloaded first.

    Args:
        query: words in the repository's name.
        limit: at most so many.

    Raises:
        HubError: the Hub is out of reach.
    """
    models = with_retries(
        lambda: list(client().list_models(filter=TAG, search=query, limit=limit, sort="downloads", full=True)),
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
        found.append(Found(model.id, name, licence, model.downloads or 0, modified, tuple(flags)))
    return found
