"""The worked example that lies in a published repository."""

from __future__ import annotations

from rela_zoo.registry import PriorSpec

_HEAD = '''"""{title}: how to use it. Needs `pip install rela-zoo`; run: python example.py [COMMIT]"""

import sys
{imports}

REPO = "{repo}"
# A full commit pins every byte; without one this takes the newest, and prints which it was.
commit = sys.argv[1] if len(sys.argv) > 1 else HfApi().model_info(REPO).sha
name = f"hf://{{REPO}}@{{commit}}"
hf_hub_download(REPO, "prior.yaml", revision=commit)  # the entry, into the Hub's cache
spec = rela_zoo.prior_spec(name)
print(name, "|", spec.title, "|", spec.licence)
'''

_EMBEDDINGS = """
# Embeddings that somebody has computed already: downloaded once, every byte checked, opened by memory map.
at = spec.artefacts["{data}"].embeddings
folder = snapshot_download(at.repo, repo_type="dataset", revision=at.revision, allow_patterns=f"{{at.path}}/*")
table = rela_zoo.open_embeddings(Path(folder) / at.path, verify="full")
print(table.shape, table.dtype, "first sample:", table.ids[0])

# Targets for a student: principal components of the rows, each with deviation 1.
{transport}
targets = transport(table.rows(range(min(len(table), 8))), dim=min(8, transport.max_dim))
print("targets", tuple(targets.shape))

# In a training: rela-zoo pretrain --config-name byol rela.prior=NAME data.train_path=DIR
"""

_FITTED = "transport = rela_zoo.fit_transport(table)"
_PUBLISHED = """at = spec.artefacts["{data}"].transport
transport = rela_zoo.TargetTransport.load(hf_hub_download(at.repo, at.path, revision=at.revision))"""

_PRIOR = """
# The network itself, frozen, with its own preprocessing; weights are checked against their hash.
prior = rela_zoo.load_prior(name)
image = Image.new("RGB", (256, 256), "orange")  # one of yours
features = prior(prior.transform(image)[None])
print("features", tuple(features.shape), "finite:", bool(torch.isfinite(features).all()))
"""

_ENTRY = """
print("trained on", spec.training_data, "| features", spec.dim)
"""


def example(repo: str, spec: PriorSpec, *, loadable: bool) -> str:
    """Text of `example.py`: published embeddings where there are some, else the network, else the entry.

    Args:
        repo: of the prior.
        spec: the entry as it is read from the Hub.
        loadable: whether anybody can load the network.
    """
    data = next((name for name in sorted(spec.artefacts) if spec.artefacts[name].embeddings), None)
    imports = ["import rela_zoo", "from huggingface_hub import HfApi, hf_hub_download"]
    body = _ENTRY
    if data is not None:
        imports = ["from pathlib import Path", "", *imports]
        imports[-1] += ", snapshot_download"
        fitted = spec.artefacts[data].transport is None
        body = _EMBEDDINGS.format(data=data, transport=_FITTED if fitted else _PUBLISHED.format(data=data))
    elif loadable:
        imports = ["", imports[0], "import torch", imports[1], "from PIL import Image"]
        body = _PRIOR
    else:
        imports = ["", *imports]
    title = spec.title.replace('"', "'").replace("\\", "/")
    return _HEAD.format(title=title, repo=repo, imports="\n".join(imports)) + body
