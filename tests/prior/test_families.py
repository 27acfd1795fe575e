"""Families of architectures: this package's own, and those of other packages, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from package_fixtures import Site
from safetensors.torch import save_file

from rela_zoo.errors import RegistryError
from rela_zoo.prior import FAMILIES, load_prior

COLOURS = """
    import torch
    from torch import nn
    from rela_zoo.errors import Problem
    from rela_zoo.prior import Family

    class Net(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first = nn.Linear(3, width)
        def forward(self, x):
            return self.first(x.mean((2, 3)))

    class Colours(Family):
        name = "colours"
        def check(self, spec):
            if spec.architecture == "linear":
                return []
            return [Problem("architecture", "linear", repr(spec.architecture), "set {key}=linear")]
        def build(self, spec):
            return Net(int(spec.model_args["width"]))
        def heads(self, spec, network):
            return ("classes",)
        def to_own_names(self, network, state):
            return {key.removeprefix("module."): value for key, value in state.items()}
"""
ENTRY = {
    "id": "my-colours", "title": "Mean colours", "source": "local", "family": "colours", "architecture": "linear",
    "model_args": {"width": 5}, "dim": 5, "file": "colours.safetensors", "licence": "mit",
    "preprocessing": {"input_size": 8, "resize": 8, "interpolation": "bilinear", "mean": 0, "std": 1},
}  # fmt: skip
LOAD = """
    import json, sys, warnings
    import torch
    warnings.simplefilter("ignore")
    from rela_zoo import list_priors, load_prior
    from rela_zoo.errors import RelaZooError
    shown = {"listed": "my-colours" in [spec.id for spec in list_priors()]}
    try:
        prior = load_prior("my-colours")
        shown["rows"] = prior(torch.ones(2, 3, 8, 8)).tolist()
        shown["architecture"] = prior.identity()["architecture"]
    except RelaZooError as error:
        shown["error"] = [type(error).__name__, str(error)]
    shown["other"] = load_prior("cifar10-resnet20").dim
    print(json.dumps(shown))
"""


def _entry(home: Path, **change: object) -> dict[str, torch.Tensor]:
    """A user's entry and its weights."""
    folder = home / "registry"
    folder.mkdir(parents=True)
    (folder / "my-colours.yaml").write_text(yaml.safe_dump({**ENTRY, **change}), encoding="utf-8")
    weight = torch.arange(15.0).reshape(5, 3)
    state = {"module.first.weight": weight, "module.first.bias": torch.ones(5), "classes.weight": torch.ones(2, 5)}
    save_file(state, folder / "colours.safetensors")
    return state


def _load(site: Site, home: Path) -> dict[str, object]:
    done = site.run(LOAD, RELA_ZOO_HOME=str(home))
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def test_the_families_of_this_package() -> None:
    assert set(FAMILIES.built_in) == {"timm", "cifar-resnet", "open-nsfw", "callable", "external"}


def test_a_family_of_another_package_loads_a_prior_by_name(site: Site, home: Path) -> None:
    state = _entry(home)
    site.install("colour-priors", COLOURS, "rela_zoo.priors", {"colours": "Colours"})
    shown = _load(site, home)
    wanted = torch.ones(2, 3) @ state["module.first.weight"].T + 1
    assert shown == {
        "listed": True, "rows": wanted.tolist(), "architecture": "colours/linear(width=5)", "other": 64,
    }  # fmt: skip


def test_what_it_can_not_make_anything_of(site: Site, home: Path) -> None:
    _entry(home, architecture="square")
    site.install("colour-priors", COLOURS, "rela_zoo.priors", {"colours": "Colours"})
    kind, text = _load(site, home)["error"]
    assert kind == "RegistryError"
    assert "architecture: expected linear, got 'square'" in text
    assert "set architecture=linear" in text


@pytest.mark.parametrize("code", ["raise OSError('no licence file')\n", "class Colours:\n    name = 'colours'\n"])
def test_a_broken_one_is_named_and_harms_nobody(site: Site, home: Path, code: str) -> None:
    _entry(home)
    site.install("colour-priors", code, "rela_zoo.priors", {"colours": "Colours"})
    shown = _load(site, home)
    kind, text = shown["error"]
    assert kind == "PluginError"
    assert "the family of priors 'colours' of the package colour-priors can't be used" in text
    assert shown["listed"]
    assert shown["other"] == 64


@pytest.mark.parametrize(
    ("family", "hint"), [("tim", "did you mean timm?"), ("colours", "install the package that provides this family")]
)
def test_a_family_that_nobody_builds(make_spec, family: str, hint: str) -> None:
    spec = make_spec(family=family)
    with pytest.raises(RegistryError, match="nothing here builds") as caught:
        load_prior(spec)
    assert hint in str(caught.value)
    assert "callable, cifar-resnet, external, open-nsfw or timm" in str(caught.value)


def test_an_untrained_network_must_say_how_images_are_prepared(make_spec) -> None:
    network = {"family": "cifar-resnet", "architecture": "resnet8", "dim": 64}
    spec = make_spec(**network, source="random", file=None, preprocessing=None)
    with pytest.raises(RegistryError, match="how images are prepared"):
        load_prior(spec)
