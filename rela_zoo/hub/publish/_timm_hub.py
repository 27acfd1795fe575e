"""The weights that timm names for a model: which file at which commit of which repository."""

from __future__ import annotations

from typing import Any, get_args

from huggingface_hub.hf_api import RepoFile
from torch import nn

from rela_zoo.errors import WeightsError
from rela_zoo.registry import PriorSpec
from rela_zoo.remote import client, translated

_FILE = "model.safetensors"


def timm_weights(name: str, network: nn.Module) -> dict[str, Any]:
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
        found = api.get_paths_info(repo, [_FILE], revision=info.sha)
    held = next((one.lfs for one in found if isinstance(one, RepoFile) and one.lfs), None)
    if held is None or info.sha is None:
        raise WeightsError(
            f"{repo} has no {_FILE}", expected="weights as safetensors: pickles are never read",
            got=", ".join(one.rfilename for one in info.siblings or []),
        )  # fmt: skip
    said = (info.card_data.get("license") if info.card_data else None) or dict(config).get("license")
    known = get_args(PriorSpec.model_fields["licence"].annotation)
    return {
        "source": "timm",
        "repo": repo,
        "revision": info.sha,
        "file": _FILE,
        "sha256": held.sha256,
        "pin": "confirmed",
        "licence": said if said in known else "unstated",
    }
