"""What the publisher says about a prior: words, licence, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rela_zoo._io.fields import sentence
from rela_zoo._io.validation import validate
from rela_zoo.errors import Problem, RegistryError
from rela_zoo.prior import reference_preprocessing
from rela_zoo.registry import Preprocessing, PriorSpec


@dataclass(frozen=True)
class Details:
    """Facts given by the publisher; None or empty keeps what the source says.

    Attributes:
        id: name of the prior.
        title: one line.
        licence: of the weights, a value of the registry's list.
        licence_link: page with its text, needed for `other`.
        training_data: what it was trained on, and whether with labels.
        citation: one line.
        arxiv: papers.
        input_size: side of the centre crop, pixels.
        resize: of the shorter side, pixels; the input size where only that is given.
        interpolation: of the resize.
        mean, std: a channel.
        base_model: repository on the Hub that the weights were derived from.
        source_datasets: data sets of the Hub that embeddings were made of.
        redistribute: the publisher states that a licence `other` allows publishing the weights.
    """

    id: str | None = None
    title: str | None = None
    licence: str | None = None
    licence_link: str | None = None
    training_data: str | None = None
    citation: str | None = None
    arxiv: Sequence[str] = ()
    input_size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    base_model: str | None = None
    source_datasets: Sequence[str] = ()
    redistribute: bool = False

    def words(self) -> dict[str, Any]:
        """The fields of an entry that are given, but for the preprocessing."""
        names = ("id", "title", "licence", "licence_link", "training_data", "citation")
        found: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**found, "arxiv": tuple(self.arxiv)} if self.arxiv else found

    @property
    def changes_entry(self) -> bool:
        """Whether an entry with these facts is another entry."""
        sizes = (self.input_size, self.resize, self.interpolation, self.mean, self.std)
        return bool(self.words()) or any(one is not None for one in sizes)

    def preprocessing(self, known: Preprocessing | None) -> Preprocessing:
        """That of the source, with what is given put over it.

        Raises:
            RegistryError: nothing known and no input size given, or values that can't be.
        """
        if known is None:
            if self.input_size is None:
                raise RegistryError(
                    "nothing says how images are prepared for this prior",
                    expected="at least an input size",
                    fix="--input-size PIXELS, and --resize, --interpolation, --mean, --std where they are not "
                    "ImageNet's and bilinear",
                )
            size = self.input_size
            fields = {"input_size": size, "resize": size, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}
            known = reference_preprocessing(Preprocessing.model_validate(fields))
        given = {
            name: value
            for name in ("input_size", "resize", "interpolation", "mean", "std")
            if (value := getattr(self, name)) is not None
        }
        if "input_size" in given and "resize" not in given:
            given["resize"] = max(self.input_size or 0, round(known.resize * (self.input_size or 0) / known.input_size))
        found, problems = validate(Preprocessing, {**known.model_dump(), **given})
        if found is None:
            raise RegistryError("this preprocessing can't be", got=_said(problems[:1]), fix="correct the options")
        return found


def make_spec(fields: dict[str, Any]) -> PriorSpec:
    """An entry from its fields, checked as a whole.

    Raises:
        RegistryError: with every contradiction.
    """
    spec, problems = validate(PriorSpec, fields)
    if spec is None:
        raise RegistryError(
            "these facts make no registry entry",
            got=_said(problems),
            fix="give or correct them with the options of `rela-zoo publish` (--licence, --id, --title, …), or write "
            "an entry of your own and give it as --entry",
        )
    return spec


def _said(problems: list[Problem]) -> str:
    return "; ".join(f"{one.key}: {sentence(one)}" for one in problems)
