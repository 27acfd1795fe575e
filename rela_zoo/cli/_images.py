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


def check_split(data: object, split: str | None, option: str) -> None:
    """Refuse a split without the data that it is one of.

    Args:
        data: the images that are named; None for none.
        split: of them.
        option: that names them.
    """
    if data is None and split is not None:
        raise typer.BadParameter(f"expected {option} beside it, whose split it is", param_hint="--split")


def open_images(data: str, skip_undecodable: bool, split: str | None = None) -> ImageSource:
    """The images at a path; without those that can't be decoded, if that is asked for."""
    from rela_zoo.data import image_source, readable

    return readable(image_source(data, split=split), "skip" if skip_undecodable else "raise")
