"""Weights to publish: what a licence allows, as safetensors whose bytes depend on the tensors alone; timm's by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from huggingface_hub.hf_api import RepoFile
from torch import Tensor, nn

from rela_zoo._io.files import atomic_path
from rela_zoo.errors import WeightsError
from rela_zoo.registry import PriorSpec
from rela_zoo.remote import client, translated

WEIGHTS_FILE = "model.safetensors"
# Licences under which no copy may be passed on, and why.
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


def pin_timm_weights(name: str, network: nn.Module) -> dict[str, Any]:
    """Fields of an entry that pin timm's weights, from the Hub's own record of the file.

    Args:
        name: `architecture.tag`.
        network: built by timm under that name.

    Raises:
        WeightsError: timm names no repository for it, or there is no safetensors file there.
        HubError: the repository is out of reach.
    """
    config: Any = network.pretrained_cfg
    repo = dict(config).get("hf_hub_id")
    if not repo:
        raise WeightsError(
            f"timm names no repository of the Hub for {name!r}", expected="a model with weights there, as name.tag",
            fix="--weights FILE publishes a safetensors file of your own",
        )  # fmt: skip
    with translated(f"the weights of {name} can't be fetched", repo=repo):
        api = client()
        info = api.model_info(repo)
        found = api.get_paths_info(repo, [WEIGHTS_FILE], revision=info.sha)
    held = next((one.lfs for one in found if isinstance(one, RepoFile) and one.lfs), None)
    if held is None or info.sha is None:
        raise WeightsError(
            f"{repo} has no {WEIGHTS_FILE}", expected="weights as safetensors: pickles are never read",
            got=", ".join(one.rfilename for one in info.siblings or []),
        )  # fmt: skip
    said = (info.card_data.get("license") if info.card_data else None) or dict(config).get("license")
    known = get_args(PriorSpec.model_fields["licence"].annotation)
    return {
        "source": "timm",
        "repo": repo,
        "revision": info.sha,
        "file": WEIGHTS_FILE,
        "sha256": held.sha256,
        "pin": "confirmed",
        "licence": said if said in known else "unstated",
    }
