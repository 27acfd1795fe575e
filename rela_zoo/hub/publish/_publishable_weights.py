"""Weights to be published: where a licence allows it, as safetensors whose bytes depend on the tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rela_zoo._io.files import atomic_path
from rela_zoo.errors import WeightsError
from rela_zoo.registry import PriorSpec

WEIGHTS_FILE = "model.safetensors"
# Licences of the registry's list under which a copy may be passed on, with the licence and its conditions.
_NO_COPY = {
    "unstated": "nobody has said that copies are allowed",
    "not-applicable": "it says that there is nothing to license, and there are weights",
}


def check_may_publish(spec: PriorSpec, redistribute: bool) -> None:
    """Refuse to publish weights whose licence does not allow it.

    Args:
        spec: with the licence.
        redistribute: the publisher has read the text of a licence `other` and says that it allows copies.

    Raises:
        WeightsError: unstated or not-applicable, or `other` without that statement.
    """
    why = _NO_COPY.get(spec.licence)
    if spec.licence == "other" and not redistribute:
        why = f"whether copies are allowed is in its own text, {spec.licence_link}"
    if why is not None:
        raise WeightsError(
            f"the weights of {spec.id!r} can't be published under licence {spec.licence!r}: {why}",
            expected="a licence that allows passing on copies",
            got=spec.licence,
            fix="--no-weights publishes the rest; --redistribute if you have read that the licence allows it"
            if spec.licence == "other"
            else "--no-weights publishes the rest; --licence NAME if the weights are yours to license",
        )


def write_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors in order of their names, without metadata: equal tensors give an equal file.

    Each is written on its own, also where two of them share memory. Written beside its place and moved there.

    Raises:
        WeightsError: no room.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError) as error:
        size = sum(one.numel() * one.element_size() for one in tensors.values())
        raise WeightsError(
            f"the weights can't be written to {path}", expected=f"room for {size} bytes", got=error,
            fix="free some space, or set TMPDIR to a folder that has it",
        ) from error  # fmt: skip
