"""Mistakes that people make in recipes and on command lines, and what is said of each."""

from __future__ import annotations

import re

import pytest

from train.config.command_line import load_command, load_config
from train.config.recipe_file import RECIPES, find_recipe
from train.errors import UserError


def problems_of(*arguments: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_config(arguments)
    return list(caught.value.problems)


def problems_in(tmp_path, text: str) -> list[str]:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return [
        problem.replace(str(path), "mine.yaml") for problem in problems_of("--config", str(path))
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run:\n  steps: 5\n\tseed: 3\n", "mine.yaml, line 3: not valid YAML: .*no tabs"),
        ("run:\n  steps: 1e4\n", "'1e4' in mine.yaml, line 2; did you mean 10000"),
        ("run:\n  steps: 1:30\n", "run.steps must be an integer, not '1:30'"),
        ("run:\n  steps: 10k\n", "run.steps must be an integer, not '10k'"),
        ("run:\n  steps: [100]\n", "line 2: run.steps must be an integer"),
        ("run:\n  steps:\n", "line 2: run.steps has no value"),
        ("optim:\n  lr: 1e-3f\n", "optim.lr must be a number, not '1e-3f'"),
        ("optim:\n  lr: -1e-3\n", "optim.lr is -0.001 in mine.yaml, line 2; it must be greater"),
        ("log:\n  wandb: maybe\n", "log.wandb must be true or false, not 'maybe'"),
        ("run:\n  precision: fp16\n", "one of auto, bf16, float32, not 'fp16'.*mean bf16"),
        ("run:\n  steps: 5\nrun:\n  steps: 6\n", "line 4: run.steps is set twice; first in"),
        ("run: 100\n", "line 1: run takes keys and values"),
        ("- run\n- optim\n", "line 1: a recipe takes keys and values"),
        ("model:\n  layers: {count: 3}\n", "unknown key 'model.layers'.*model.num_layers"),
        ("optimizer: adamw\n", "unknown key 'optimizer' in mine.yaml, line 1; .*optim.name"),
        ("optimizer:\n  lr: 1\n", "unknown section 'optimizer'.*did you mean optim?"),
        ("run:\n  steps: 20000  \n  seed: 4.5\n", "line 3"),
        ("<<: {name: x}\n", "unknown key '<<'"),
        ("data:\n  directory: $SCRATCH/data\n", r"line 2; \$SCRATCH is not replaced here"),
        ("output_dir: ${HOME}/runs\n", r"\$\{HOME is not replaced"),
        (
            "output_dir: runs/lr[0.1]\n",
            r"output_dir is 'runs/lr\[0.1\]'.*below '\[' cannot be loaded",
        ),
        ("name: lr[0.1]\n", "name is 'runs/lr.0.1.' in mine.yaml, line 1, and checkpoints below"),
        ("resume: runs/a*/checkpoints/step-00000001\n", r"resume is .*below '\*' cannot be loaded"),
        ("output_dir: runs/what?\n", r"output_dir is .*below '\?' cannot be loaded"),
        ("name: runs/first\n", "name is 'runs/first' in mine.yaml, line 1; it must be a folder"),
        ("data:\n  source: files\n", "line 2, and data.files is empty"),
        (
            "model:\n  architecture: gpt2\n  qk_norm: true\n",
            "model.qk_norm is true in mine.yaml, line 3, and model.architecture is gpt2; take lla",
        ),
        (
            "model:\n  architecture: gpt2\n  quantize: b158-mean\n",
            "model.quantize is b158-mean in mine.yaml, line 3, and model.architecture is gpt2; ta",
        ),
        (
            "model:\n  fused_cross_entropy: liger\nloss:\n  z_loss: 1.0e-4\n",
            "loss.z_loss is 0.0001 in mine.yaml, line 4, which is computed in chunks, and .* liger",
        ),
        (
            "optim:\n  schedule: range\n  min_lr_ratio: 0\n",
            "optim.min_lr_ratio is 0.0 in mine.yaml, line 3; it must be above 0, for the rate of",
        ),
        (
            "data:\n  source: files\n  start_early: true\n"
            "  mixture: [{name: a, files: [a.txt], weight: 1}]\n",
            "data.start_early is true in mine.yaml, line 3, and data.mixture needs rows of every",
        ),
        (
            "data:\n  source: stdlib\n  start_early: true\neval:\n  tokens: 0\n",
            "eval.tokens is 0 in mine.yaml, line 5, all documents that are held out, and with",
        ),
        (
            "data:\n  files: a.txt\n",
            "data.files is set in mine.yaml, line 2, and data.source is c4",
        ),
        (
            "data:\n  revision: main\n",
            "data.revision is 'main' in mine.yaml, line 2, a branch, which",
        ),
        (
            "data:\n  source: stdlib\n  revision: v1\n",
            "line 3, and data.source is stdlib, which is",
        ),
        ("data:\n  repository: /\n  revision: v1\n", "line 3, and data.repository is the folder /"),
        ("decay:\n  s1: 7\n", "decay.s1 is 7.0 in mine.yaml, line 2; it must be at most decay.s2"),
        (
            "optim:\n  lr: 1\n  weight_decay: 0.2\n",
            "optim.weight_decay is 0.2 in mine.yaml, line 3, and a step .* 1 . 0.2 . 5 = 1 of a w",
        ),
        (
            "optim:\n  lr: 1\n  weight_decay: 1\ndecay:\n  method: uniform\n",
            "take 1 . 1 = 1 of a weight, which turns its sign",
        ),
        (
            "optim:\n  lr: 0.1\n  weight_decay: 0.5\ndecay:\n  drives: both\n",
            "take 0.1 . 0.5 . 25 = 1.25 of a weight",
        ),
        ("run:\n  micro_batch: 600\n", "it must be at most run.global_batch = 512"),
        ("checkpoint:\n  every: 300\n  keep_every: 500\n", "a multiple of checkpoint.every = 300"),
    ],
)
def test_a_mistake_in_a_recipe(tmp_path, text, said):
    problems = problems_in(tmp_path, text)
    assert len(problems) == 1, problems
    assert re.search(said, problems[0]), problems[0]


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("run:\n  steps: 1_000_000\n", lambda c: c.run.steps == 1_000_000),
        ("optim:\n  lr: 1e-3\n", lambda c: c.optim.lr == 1e-3),
        ("optim:\n  lr: 1\n", lambda c: c.optim.lr == 1.0),
        (
            "optim:\n  lr: 1\n  weight_decay: 2\ndecay:\n  method: none\n",
            lambda c: c.optim.weight_decay == 2.0,
        ),
        (
            "optim:\n  name: adam\n  lr: 1\n  weight_decay: 2\n",
            lambda c: c.optim.weight_decay == 2.0,
        ),
        ("log:\n  wandb: yes\n", lambda c: c.log.wandb is True),
        ("run:\n  seed: 010\n", lambda c: c.run.seed == 10),
        ("run:\n  steps: '2000'\n", lambda c: c.run.steps == 2000),
        ("name: 2024-01-01\n", lambda c: c.name == "2024-01-01"),
        ("output_dir: ~/runs\n", lambda c: "~" not in str(c.folder)),
    ],
)
def test_what_is_meant_as_it_is_written(tmp_path, text, config):
    (tmp_path / "mine.yaml").write_text(text)
    assert config(load_config(["--config", str(tmp_path / "mine.yaml")]))


def test_all_are_told_at_once_with_their_lines(tmp_path):
    text = (
        "optimizer:\n  learning_rate: 1e-3\nrun:\n  steps: many\n  micro_batch: 0\n"
        "decay:\n  s1: 9\nlog:\n  every: -1\n"
    )
    assert problems_in(tmp_path, text) == [
        "unknown section 'optimizer' in mine.yaml, line 1; did you mean optim?",
        "unknown key 'optim.learning_rate' in mine.yaml, line 2; did you mean optim.lr?",
        "run.steps must be an integer, not 'many' in mine.yaml, line 4",
        "run.micro_batch is 0 in mine.yaml, line 5; it must be at least 1",
        "log.every is -1 in mine.yaml, line 9; it must be at least 1",
        "decay.s1 is 9.0 in mine.yaml, line 7; it must be at most decay.s2 = 5.0",
    ]


def test_several_read_as_a_list():
    with pytest.raises(UserError) as caught:
        load_config(["--run.steps=x", "--optim.lr=0"])
    assert str(caught.value).splitlines() == [
        "2 problems:",
        "  run.steps must be an integer, not 'x' on the command line",
        "  optim.lr is 0.0; it must be greater than 0",
    ]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        # 1000 steps of warm-up would be more than three steps; but the steps were not read
        (["--run.max_steps", "3"], ["run.max_steps"]),
        (["--run.steps", "x3", "--optim.warmup_steps", "20000"], ["run.steps"]),
        (["--config", "/nowhere/x.yaml", "--run.steps", "3"], ["/nowhere/x.yaml"]),
        (["--config", "--run.steps", "3"], ["--config"]),
        (["--run.steps=3", "--run.steps=4"], ["run.steps"]),
        (["--model.num_heads=0"], ["model.num_heads"]),
    ],
)
def test_a_mistake_brings_no_second_message(arguments, keys):
    problems = problems_of(*arguments)
    assert len(problems) == len(keys), problems
    assert all(key in problem for key, problem in zip(keys, problems, strict=True))


def test_a_recipe_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = load_config(["--config", str(RECIPES / "llama_60m.yaml")])
    for name in ("llama_60m", "llama_60m.yaml", "train/recipes/llama_60m.yaml"):
        assert load_config(["--config", name]) == shipped
    (tmp_path / "llama_60m").mkdir()
    assert load_config(["--config", "llama_60m"]) == shipped
    (tmp_path / "llama_130m").write_text("name: mine\n")
    assert load_config(["--config", "llama_130m"]).name == "mine"
    assert str(find_recipe("none")) == "none"


@pytest.mark.parametrize("arguments", [[], ["--run.steps", "5"]])
def test_no_recipe_is_refused_with_those_there_are(arguments):
    with pytest.raises(UserError, match=r"no recipe; add --config NAME with one of .*quickstart"):
        load_command(arguments)
