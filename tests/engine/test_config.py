"""The `rela` section: every mistake by its dotted key, all of them at once."""

import pytest

from rela_zoo.engine.config import RelaConfig, parse_rela, rela_defaults
from rela_zoo.errors import ConfigError


def test_the_yaml_documents_exactly_the_keys_there_are():
    assert set(rela_defaults()) == set(RelaConfig.model_fields)


def test_the_yaml_has_the_defaults_of_the_model():
    for key, value in rela_defaults().items():
        default = RelaConfig.model_fields[key].default
        assert (key, type(default), default) == (key, type(value), value)
    assert parse_rela({}) == parse_rela(rela_defaults()) == RelaConfig()


def test_defaults():
    config = parse_rela({"prior": "cifar10-resnet20"})
    assert (config.prior, config.data_ratio, config.handover) == ("cifar10-resnet20", 0.2, "adaptive")
    assert (config.power, config.head) == (0.5, "trained")
    assert config.accelerates


def test_no_prior_means_no_accelerated_stage():
    assert not parse_rela({}).accelerates
    assert not parse_rela({"prior": "x", "handover": 0}).accelerates


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"data_ratio": 0}, "rela.data_ratio"),
        ({"data_ratio": 1.5}, "rela.data_ratio"),
        ({"data_ratio": float("nan")}, "rela.data_ratio"),
        ({"data_ratio": "half"}, "rela.data_ratio"),
        ({"data_ratio": True}, "rela.data_ratio"),
        ({"head": "frosen"}, "rela.head"),
        ({"views_on": "gpu"}, "rela.views_on"),
        ({"cache": "disk"}, "rela.cache"),
        ({"cache": "device"}, "rela.cache"),
        ({"handover": 1.2}, "rela.handover"),
        ({"handover": "soon"}, "rela.handover"),
        ({"handover_at": "batch"}, "rela.handover_at"),
        ({"selection": "best"}, "rela.selection"),
        ({"preprocessing": "own"}, "rela.preprocessing"),
        ({"augmentations": "mild"}, "rela.augmentations"),
        ({"augmentations": []}, "rela.augmentations"),
        ({"augmentations": 3}, "rela.augmentations"),
        ({"verify": -1}, "rela.verify"),
        ({"seed": 0.5}, "rela.seed"),
        ({"prior": 3}, "rela.prior"),
        ({"prior": ""}, "rela.prior"),
        ({"embeddings": "dir"}, "rela.embeddings"),
    ],
)
def test_each_mistake_names_its_key(section, key):
    with pytest.raises(ConfigError) as caught:
        parse_rela(section)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.expected
    assert problem.got
    assert problem.fix


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_rela({"data_ratoi": 0.2, "head": "x", "seed": -1, "data_ratio": 7})
    assert [p.key for p in caught.value.problems] == ["rela.data_ratoi", "rela.data_ratio", "rela.head", "rela.seed"]
    assert "did you mean rela.data_ratio?" in str(caught.value)


def test_views_are_checked_as_deep_as_they_go():
    view = {"crop_size": 32, "num_crops": 2, "grayscale": {"prob": 0.2}}
    assert parse_rela({"augmentations": [view]}).augmentations == (view,)
    with pytest.raises(ConfigError) as caught:
        parse_rela({"augmentations": [view, {"color_jiter": {"prob": 0.8}, "grayscale": {"prob": 80}}, "grey"]})
    found = {problem.key.removeprefix("rela.augmentations."): problem for problem in caught.value.problems}
    assert set(found) == {"1.color_jiter", "1.crop_size", "1.grayscale.prob", "2"}
    assert found["1.color_jiter"].fix == "did you mean rela.augmentations.1.color_jitter?"


def test_what_depends_on_a_wrong_key_is_not_reported_on_top():
    with pytest.raises(ConfigError) as caught:
        parse_rela({"prior": 3, "embeddings": "dir", "selection": "balanced"})
    assert [problem.key for problem in caught.value.problems] == ["rela.prior"]


def test_a_checked_section_is_frozen():
    config = parse_rela({"prior": "random", "handover": 1})
    assert repr(config.handover) == "1.0"
    with pytest.raises(ValueError, match="frozen"):
        config.prior = None


def test_a_bare_string_means_the_plugin_was_not_found():
    with pytest.raises(ConfigError, match="rela-zoo run"):
        parse_rela("cifar10-resnet20")
