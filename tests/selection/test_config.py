"""The `selection` key: names, options, and every problem of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rela_zoo._io.paths import packaged_configs
from rela_zoo.engine.config import parse_rela
from rela_zoo.errors import ConfigError
from rela_zoo.selection import POLICIES, parse_selection


def _keys(section, ratio=0.2):
    return [problem.key for problem in parse_selection(section, ratio)[1]]


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "replay"])
def test_a_name_alone_is_a_policy_with_its_defaults(name):
    config, problems = parse_selection(name, 0.2)
    assert not problems
    assert config == parse_selection({"name": name}, 0.2)[0]
    assert parse_selection(config.plain(), 0.2)[0] == config  # what a checkpoint holds can be read back


@pytest.mark.parametrize(
    ("section", "plain"),
    [
        ("uniform", '{"name": "uniform"}'),
        ("balanced", '{"name": "balanced", "clusters": null, "dims": 128, "weighted": false}'),
        ("coverage", '{"name": "coverage", "centres": null, "dims": 128, "weighted": false}'),
        ({"name": "dedup", "threshold": 1},
         '{"name": "dedup", "threshold": 1, "clusters": null, "dims": 128, "weighted": false}'),
        ({"name": "prototypical", "pool": 0.5},
         '{"name": "prototypical", "pool": 0.5, "clusters": null, "dims": 128}'),
        ("hard", '{"name": "hard", "pool": null, "clusters": null, "dims": 128}'),
        ("loss", '{"name": "loss", "momentum": 0.5, "uniform_share": 0.25, "weighted": true}'),
        ({"name": "curriculum", "phases": [{"name": "loss", "momentum": 0, "until": 0.5}, "uniform"], "growth": 2},
         '{"name": "curriculum", "phases": [{"name": "loss", "momentum": 0, "uniform_share": 0.25, "weighted": true, '
         '"until": 0.5}, {"name": "uniform", "until": 1.0}], "growth": 2}'),
        ({"name": "replay", "path": Path("drawn")}, '{"name": "replay", "path": "drawn"}'),
    ],
    ids=str,
)  # fmt: skip
def test_plain_policies_never_change(section, plain):
    # Golden, to the byte: it is in checkpoints and exports, which are compared with it.
    config, problems = parse_selection(section, 0.2)
    assert not problems
    assert json.dumps(config.plain()) == plain


def test_the_yaml_documents_every_policy_and_option():
    text = (packaged_configs() / "rela" / "default.yaml").read_text(encoding="utf-8")
    for name, policy in POLICIES.built_in.items():
        assert f"#   {name} " in text
        assert all(f"{option}:" in text for option in policy.Options.model_fields)


def test_options_change_what_they_name():
    config, problems = parse_selection({"name": "balanced", "clusters": 7, "record": "out"}, 0.2)
    assert not problems
    assert (config.options["clusters"], config.options["dims"], config.record) == (7, 128, "out")
    assert "record" not in config.plain()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("balancd", "rela.selection"),
        (None, "rela.selection"),
        (3, "rela.selection"),
        ({"clusters": 3}, "rela.selection"),
        ({"name": "balanced", "cluster": 3}, "rela.selection.cluster"),
        ({"name": "balanced", "clusters": 1}, "rela.selection.clusters"),
        ({"name": "balanced", "clusters": True}, "rela.selection.clusters"),
        ({"name": "coverage", "centres": 0}, "rela.selection.centres"),
        ({"name": "dedup", "threshold": 1.5}, "rela.selection.threshold"),
        ({"name": "hard", "pool": 0.0}, "rela.selection.pool"),
        ({"name": "hard", "pool": 0.1}, "rela.selection.pool"),
        ({"name": "hard", "weighted": True}, "rela.selection.weighted"),
        ({"name": "loss", "uniform_share": 0}, "rela.selection.uniform_share"),
        ({"name": "loss", "momentum": 1}, "rela.selection.momentum"),
        ({"name": "replay"}, "rela.selection.path"),
        ({"name": "curriculum", "growth": 0}, "rela.selection.growth"),
        ({"name": "curriculum", "phases": []}, "rela.selection.phases"),
        ({"name": "curriculum", "phases": ["hard", "uniform"]}, "rela.selection.phases.0.until"),
        ({"name": "curriculum", "phases": [{"name": "hard", "until": 0.5}]}, "rela.selection.phases.0.until"),
        ({"name": "curriculum", "phases": [{"name": "soft"}]}, "rela.selection.phases.0"),
        ({"name": "curriculum", "phases": ["curriculum"]}, "rela.selection.phases.0.name"),
        ({"name": "curriculum", "phases": [{"name": "replay", "path": "x"}]}, "rela.selection.phases.0.name"),
        ({"name": "curriculum", "phases": [{"name": "uniform", "record": "x"}]}, "rela.selection.phases.0.record"),
        ({"name": "curriculum", "phases": "uniform"}, "rela.selection.phases"),
        ({"name": "curriculum", "growth": float("inf")}, "rela.selection.growth"),
        (
            {"name": "curriculum", "phases": [{"name": "hard", "pool": 0.22}], "growth": 3},
            "rela.selection.phases.0.pool",
        ),
        ({"name": "curriculum", "phases": [{"name": "hard", "pool": 0.1}]}, "rela.selection.phases.0.pool"),
        ({"name": "uniform", "record": ""}, "rela.selection.record"),
    ],
)
def test_problems_name_their_key(section, key):
    assert _keys(section) == [key]


def test_growth_must_leave_room():
    section = {"name": "curriculum", "phases": ["uniform"], "growth": 3}
    assert _keys(section, 0.66) == []
    assert _keys(section, 0.7) == ["rela.selection.growth"]


def test_near_names_are_suggested():
    problem = parse_selection("balancd", 0.2)[1][0]
    assert "balanced" in problem.fix
    assert "clusters" in parse_selection({"name": "balanced", "cluster": 3}, 0.2)[1][0].fix


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "phases", "until", "growth"]), x, max_size=3)
        ),
    )
)
def test_nothing_crashes(section):
    parse_selection(section, 0.2)
    parse_selection({"name": "curriculum", "phases": section}, 0.2)


def test_what_a_policy_looks_at_must_be_there():
    def keys(**section):
        with pytest.raises(ConfigError) as caught:
            parse_rela(section)
        return [problem.key for problem in caught.value.problems]

    assert keys(selection="balanced") == ["rela.selection"]
    assert keys(selection="loss") == ["rela.selection"]
    assert keys(prior="random", handover=0.0, selection="loss") == ["rela.selection"]
    assert keys(selection={"name": "curriculum", "phases": ["hard"]}) == ["rela.selection"]
    assert keys(data_ratio=3, selection={"name": "hard", "pool": 7}) == ["rela.data_ratio", "rela.selection.pool"]
    config = parse_rela({"prior": "random", "handover": 0.0, "selection": "balanced"})
    assert config.needs_embeddings
    assert not config.accelerates
    assert not parse_rela({"data_ratio": 0.5}).needs_embeddings
