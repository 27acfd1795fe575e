"""Policies of other packages: drawn and trained with by name; broken ones are named and harm nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from package_fixtures import Site
from PIL import Image

GROUP = "rela_zoo.policies"
EVERY_OTHER = """
    import numpy as np
    from rela_zoo.selection.policies import Policy, PolicyOptions, Scores, always

    class EveryOther(Policy):
        name = "every-other"

        class Options(PolicyOptions):
            odd: bool = False

        options: Options

        def scores(self, context):
            return always(Scores((np.arange(context.n) % 2 == self.options.odd).astype(np.float64)))
"""

DRAW = """
    import json
    from rela_zoo.selection import POLICIES, build_subset, parse_selection
    shown = {"names": list(POLICIES)}
    config, problems = parse_selection({"name": "every-other", "odd": True}, 0.5)
    shown["plain"], shown["problems"] = config.plain(), [str(one) for one in problems]
    shown["drawn"] = build_subset(config, n=20, ratio=0.5, seed=0).indices(0).tolist()
    phases = [{"name": "every-other", "until": 0.5}, "uniform"]
    config, problems = parse_selection({"name": "curriculum", "phases": phases}, 0.5)
    shown["phase"] = build_subset(config, n=20, ratio=0.5, seed=0, epochs=2).indices(0).tolist()
    for name in ("every-othr", {"name": "every-other", "odd": 1, "even": 2}):
        shown.setdefault("wrong", []).append([str(one) for one in parse_selection(name, 0.5)[1]])
    print(json.dumps(shown))
"""


def test_a_policy_of_another_package_is_drawn_by_name(site: Site) -> None:
    site.install("every-other-policy", EVERY_OTHER, GROUP, {"every-other": "EveryOther"})
    done = site.run(DRAW)
    assert done.returncode == 0, done.stdout
    shown = json.loads(done.stdout)
    assert shown["names"][-1] == "every-other"
    assert "uniform" in shown["names"]
    assert (shown["plain"], shown["problems"]) == ({"name": "every-other", "odd": True}, [])
    assert sorted(shown["drawn"]) == list(range(1, 20, 2))
    assert sorted(shown["phase"]) == list(range(0, 20, 2))
    (unknown,), (extra, typed) = shown["wrong"]
    assert "did you mean every-other?" in unknown
    assert extra.startswith("rela.selection.even: expected a known key, got 2")
    assert typed.startswith("rela.selection.odd: expected true or false, got 1")


@pytest.mark.slow
def test_a_run_trains_with_it(site: Site, tmp_path: Path) -> None:
    site.install("every-other-policy", EVERY_OTHER, GROUP, {"every-other": "EveryOther"})
    for i in range(32):
        place = tmp_path / "images" / "ab"[i // 16]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i * 7, np.uint8)).save(place / f"{i:02d}.png")
    words = [
        "pretrain", "--config-name", "simsiam", f"data.train_path={tmp_path / 'images'}", "rela=default",
        "rela.data_ratio=0.5", "rela.selection={name: every-other, odd: true, record: drawn}", "max_epochs=2",
        "data.num_workers=0", "optimizer.batch_size=8", "accelerator=cpu", "backbone.name=resnet10t",
        "method_kwargs.proj_hidden_dim=8", "method_kwargs.pred_hidden_dim=8",
    ]  # fmt: skip
    done = site.run(f"from rela_zoo.cli import main\nimport sys\nsys.argv[1:] = {words!r}\nmain()")
    assert done.returncode == 0, done.stdout
    assert "selection every-other" in done.stdout
    assert "trained 2 epochs, 4 steps, 32 samples" in done.stdout
    code = "from rela_zoo.selection.record import read_epoch\nprint(sorted(read_epoch('drawn', 1)[0]))"
    assert site.run(code).stdout.strip() == str([f"{'ab'[i // 16]}/{i:02d}.png" for i in range(1, 32, 2)])


def test_broken_ones_are_named_and_harm_nobody(site: Site) -> None:
    site.install("every-other-policy", EVERY_OTHER, GROUP, {"every-other": "EveryOther"})
    site.install("no-import", "import there_is_no_such_module\n", GROUP, {"gone": "X"})
    bad = """
        from rela_zoo.selection.policies import Policy
        class Empty(Policy):
            name = "empty"
        class Untyped(Policy):
            name = "untyped"
            Options = dict
            def scores(self, context): ...
        class Uniform(Policy):
            name = "uniform"
            def scores(self, context): ...
    """
    names = {"empty": "Empty", "untyped": "Untyped", "renamed": "Empty", "uniform": "Uniform", "absent": "Nothing"}
    site.install("bad-policies", bad, GROUP, names)
    site.install("another-other", EVERY_OTHER, GROUP, {"twice": "EveryOther"})
    site.install("third-other", EVERY_OTHER, GROUP, {"twice": "EveryOther"})
    wanted = ["gone", "empty", "untyped", "renamed", "absent", "twice", "uniform", "every-other"]
    done = site.run(f"""
        import json
        from rela_zoo.selection import parse_selection
        print(json.dumps([[str(one) for one in parse_selection(name, 0.5)[1]] for name in {wanted!r}]))
    """)
    assert done.returncode == 0, done.stdout
    said = dict(zip(wanted, json.loads(done.stdout.splitlines()[-1]), strict=True))
    for name, words in {
        "gone": ["package no-import", "No module named 'there_is_no_such_module'", "pip uninstall no-import"],
        "empty": ["package bad-policies", "defines neither `scores` nor `subset`"],
        "untyped": ["package bad-policies", "Untyped.Options, which does not derive from PolicyOptions"],
        "renamed": ["package bad-policies", "whose name is 'empty'"],
        "absent": ["package bad-policies", "AttributeError"],
        "twice": ["provided more than once", "another-other", "third-other"],
    }.items():
        (problem,) = said[name]
        assert problem.startswith("rela.selection: expected a policy that can be used"), problem
        assert all(word in problem for word in words), problem
    assert said["uniform"] == said["every-other"] == []
