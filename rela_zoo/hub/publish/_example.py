"""The worked example that lies in a published repository."""

from __future__ import annotations

from rela_zoo.registry import PriorSpec

_HEAD = '''"""{title}: how to use it. Needs `pip install rela-zoo`; run: python example.py [COMMIT]"""

import sys

import rela_zoo
from huggingface_hub import HfApi

REPO = "{repo}"
# A full commit pins every byte; without one this takes the newest, and prints which it was.
commit = sys.argv[1] if len(sys.argv) > 1 else HfApi().model_info(REPO).sha
name = f"hf://{{REPO}}@{{commit}}"
print(name)
'''

_EMBEDDINGS = """
# Embeddings that somebody has computed already: downloaded, checked against their hashes, opened by memory map.
pulled = rela_zoo.pull(name, dataset="{data}")
table = rela_zoo.open_embeddings(pulled.embeddings)
print(table, "first sample:", table.ids[0])

# Targets for a student {width} wide: principal components of the rows, each with deviation 1.
transport = {transport}
targets = transport(table.rows(range(min(len(table), 8))), dim={width})
print("targets", tuple(targets.shape))

# The same in a training, which then never loads the prior:
#   rela-zoo pretrain --config-name byol rela.prior={{name}} data.train_path=DIR
"""

_PRIOR = """
# The network itself, frozen, with its own preprocessing; weights are checked against their hash.
import torch
from PIL import Image

prior = rela_zoo.load_prior(name)
image = Image.new("RGB", (256, 256), "orange")  # one of yours
features = prior(prior.transform(image)[None])
print("features", tuple(features.shape), "finite:", bool(torch.isfinite(features).all()))
"""

_ENTRY = """
spec = rela_zoo.prior_spec(name)
print(spec.title, "|", spec.licence, "|", spec.training_data)
"""


def example(repo: str, spec: PriorSpec) -> str:
    """Text of `example.py`: pulled embeddings where there are some, else the network, else the entry.

    Args:
        repo: of the prior.
        spec: the entry as it is read from the Hub.
    """
    text = _HEAD.format(title=spec.title.replace('"', "'").replace("\\", "/"), repo=repo)
    data = next((name for name in sorted(spec.artefacts) if spec.artefacts[name].embeddings), None)
    if data is not None:
        width = min(8, spec.dim or 8)
        fitted = spec.artefacts[data].transport is not None
        transport = "rela_zoo.TargetTransport.load(pulled.transport)" if fitted else "rela_zoo.fit_transport(table)"
        return text + _EMBEDDINGS.format(data=data, width=width, transport=transport).replace("{{", "{").replace(
            "}}", "}"
        )
    if spec.family != "external" and not any("weights are not published" in note for note in spec.notes):
        return text + _PRIOR
    return text + _ENTRY
