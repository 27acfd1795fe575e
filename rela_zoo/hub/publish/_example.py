"""The worked example that lies in a published repository."""

from __future__ import annotations

from rela_zoo.registry import PriorSpec

_HEAD = '''"""{title}: how to use it. Needs `pip install rela-zoo`; run: python example.py [COMMIT]"""

import sys

import rela_zoo
{imports}

REPO = "{repo}"
# A full commit pins every byte; without one this takes the newest, and prints which it was.
commit = sys.argv[1] if len(sys.argv) > 1 else HfApi().model_info(REPO).sha
name = f"hf://{{REPO}}@{{commit}}"
spec = rela_zoo.prior_spec(name)
print(name, "|", spec.title, "|", spec.licence)
'''

_EMBEDDINGS = """
# Embeddings that somebody has computed already: downloaded once, every byte checked, opened by memory map.
pulled = rela_zoo.pull(name, "{data}")
table = rela_zoo.open_embeddings(pulled.embeddings)
print(table.shape, table.dtype, "first sample:", table.ids[0])

# Targets for a student: principal components of the rows, each with deviation 1.
transport = {transport}
targets = transport(table.rows(range(min(len(table), 8))), dim=min(8, transport.max_dim))
print("targets", tuple(targets.shape))

# In a training: rela-zoo pretrain --config-name byol rela.prior=NAME data.train_path=DIR
"""

_FITTED, _PUBLISHED = "rela_zoo.fit_transport(table)", "rela_zoo.TargetTransport.load(pulled.transport)"

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
    imports = ["from huggingface_hub import HfApi"]
    if data is not None:
        published = spec.artefacts[data].transport is not None
        body = _EMBEDDINGS.format(data=data, transport=_PUBLISHED if published else _FITTED)
    elif loadable:
        imports = ["import torch", *imports, "from PIL import Image"]
        body = _PRIOR
    else:
        body = _ENTRY
    title = spec.title.replace('"', "'").replace("\\", "/")
    return _HEAD.format(title=title, repo=repo, imports="\n".join(imports)) + body
