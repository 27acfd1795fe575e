"""What a publication would do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

from rela_zoo.hub.publish._repo_state import Change


@dataclass
class Plan:
    """What would be sent: the embeddings' repository (if any is given) and the prior's.

    Attributes:
        dataset: change of the data-set repository.
        model: change of the model repository.
        private: of repositories that are to be made.
        pr: as pull requests.
    """

    dataset: Change | None
    model: Change
    private: bool
    pr: bool

    @property
    def changes(self) -> list[Change]:
        """In the order in which they are sent."""
        return [*([self.dataset] if self.dataset else []), self.model]

    @property
    def anything(self) -> bool:
        """Whether there is anything to send."""
        return any(change.anything for change in self.changes)


@dataclass
class Publication:
    """What was done.

    Attributes:
        repo: of the prior.
        commit: its full commit; None in a dry run.
        tag: of that commit, if any.
        dataset_repo, dataset_commit: of the embeddings, if any were given.
        changed: whether anything was sent.
        pulls: addresses of the pull requests opened.
        plan: what was compared.
    """

    repo: str
    commit: str | None
    tag: str | None
    dataset_repo: str | None
    dataset_commit: str | None
    changed: bool
    pulls: list[str]
    plan: Plan

    @property
    def name(self) -> str | None:
        """What others write as `rela.prior`."""
        return f"hf://{self.repo}@{self.commit}" if self.commit else None
