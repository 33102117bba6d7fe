"""The template of a recipe has every key, says what it means, and loads back to what it was of."""

from __future__ import annotations

import pytest

from train.config import MixtureSource, Ratio, TrainConfig
from train.config.command_line import load_config
from train.config.key_docs import key_docs
from train.config.key_registry import known_keys, sections
from train.config.recipe_command import main
from train.config.recipe_file import recipe_names
from train.config.recipe_template import recipe_template


def loaded(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    return load_config(["--config", str(tmp_path / "mine.yaml")])


@pytest.mark.parametrize("name", [None, *recipe_names()])
def test_it_loads_back(tmp_path, capsys, name):
    assert main(["--from", name] if name else []) == 0
    text = capsys.readouterr().out
    expected = load_config(["--config", name]) if name else TrainConfig()
    assert loaded(tmp_path, text) == expected
    assert max(map(len, text.splitlines())) <= 100


def test_lists_and_odd_texts_load_back(tmp_path):
    arguments = [
        "--name=für: 1",
        "--data.source=files",
        "--data.mixture=[{name: a, files: [x, 'y,z'], weight: 0.3}, "
        "{name: b, files: u, weight: 1}]",
        "--decay.method=fixed_ratio",
        "--decay.ratios=[{modules: '*q_proj*', ratio: 2}, {modules: '*', ratio: 1}]",
        "--optim.lr=3e-7",
        "--log.peak_tflops=12.5",
    ]
    config = load_config(arguments)
    assert config.data.mixture[0] == MixtureSource("a", ("x", "y,z"), 0.3)
    assert config.decay.ratios[1] == Ratio("*", 1.0)
    assert loaded(tmp_path, recipe_template(config)) == config


def test_every_key_stands_in_order_under_what_it_means():
    lines = recipe_template(TrainConfig()).splitlines()
    keys = []
    section = ""
    for line in lines:
        name = line.split(":")[0].strip()
        if line.startswith("#") or not line.strip() or line.strip().startswith("#"):
            continue
        if name in sections() and not line.startswith(" "):
            section = f"{name}."
        else:
            keys.append(section + name)
    assert keys == list(known_keys())
    text = " ".join(word for line in lines for word in line.replace("#", " ").split())
    for key in known_keys():
        assert key_docs()[key] and key_docs()[key] in text, key
    assert "peak learning rate. (a number, greater than 0; default 0.001)" in text


def test_a_recipe_that_is_not_there(capsys):
    assert main(["--from", "quikstart"]) == 2
    assert "did you mean quickstart?" in capsys.readouterr().err
