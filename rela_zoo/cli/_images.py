"""The images that a command works on, and what it does about those that can't be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource

SkipUndecodable = Annotated[
    bool, typer.Option("--skip-undecodable", help="Leave out images that can't be decoded, and say so.")
]
Split = Annotated[str | None, typer.Option(help="Of data with several splits: train, validation, test, ….")]

DATA_HELP = "Images: a folder, parquet files, WebDataset tars, a pattern, .npy, .h5, hf://datasets/org/name, …."


def open_images(data: str, skip_undecodable: bool, split: str | None = None) -> ImageSource:
    """The images at a path; without those that can't be decoded, if that is asked for."""
    from rela_zoo.data import image_source, readable

    return readable(image_source(data, split=split), "skip" if skip_undecodable else "raise")
