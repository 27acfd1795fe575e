"""What shows a published prior to people: the worked example in its repository, and the figure on its card."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from rela_zoo._io.install import install_command
from rela_zoo.registry import PriorSpec

_HEAD = '''"""{title}: how to use it.

Needs rela-zoo: {install}; run: python example.py, or with a full commit behind it
"""

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
    return _HEAD.format(title=title, repo=repo, install=install_command(), imports="\n".join(imports)) + body


def versions() -> str:
    """Of what a publication is made with, for people."""
    from importlib.metadata import version

    from rela_zoo._version import __version__

    return ", ".join([f"rela-zoo {__version__}", *(f"{name} {version(name)}" for name in ("torch", "timm"))])


def spectrum_figure(title: str, spectra: Mapping[str, tuple[int, tuple[float, ...]]]) -> bytes:
    """A PNG: for each data set the cumulative explained variance, and each component's own share.

    Args:
        title: name of the prior.
        spectra: data set → rows fitted, and fractions of the variance, falling; they add up to at most 1.

    Returns:
        the file's bytes, the same for the same input and version of matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, 2)
    left, right = axes
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for number, (name, (rows, ratio)) in enumerate(sorted(spectra.items())):
        share = np.asarray(ratio, dtype=np.float64)
        count = np.arange(1, len(share) + 1)
        colour = colours[number % len(colours)]
        total = np.minimum(np.cumsum(share), 1.0)
        half, most = (int(np.searchsorted(total, level)) + 1 for level in (0.5, 0.9))
        label = f"{name} ({rows:,} images): half in {half}, 90 % in {most if total[-1] >= 0.9 else f'> {len(share)}'}"
        left.plot(count, 100 * total, color=colour, lw=1.8, label=label)
        right.plot(count, 100 * share, color=colour, lw=1.8)
    left.axhline(90, color="0.6", ls=":", lw=1)
    left.set_ylim(0, 102)
    left.set_ylabel("variance explained, %")
    left.set_title("leading components together", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    right.set_yscale("log")
    right.set_ylabel("share of the variance, %")
    right.set_title("each component", fontsize=10)
    for panel in (left, right):
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.set_xlabel("principal component")
        panel.grid(alpha=0.25)
    figure.suptitle(f"Spectrum of the embeddings by {title}", fontsize=11)
    out = io.BytesIO()
    # Without the version and the date that matplotlib writes: the same picture is the same file.
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
