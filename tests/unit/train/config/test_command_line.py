"""The loader: what it accepts, and what it says to what it refuses."""

import dataclasses
import subprocess
import sys

import pytest

from train.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from train.config.command_line import dump_config, load_config
from train.config.key_registry import known_keys
from train.config.validate import accumulation_steps, check_batch, check_values, rows_per_rank
from train.errors import Problems, UserError

IMPORT = "from train.config.command_line import load_command"


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def refusal(*argv):
    with pytest.raises(UserError) as caught:
        load_config(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_arguments_give_the_defaults():
    assert load_config([]) == TrainConfig()


def test_overrides_win_over_the_file_wherever_they_stand(tmp_path):
    path = recipe(tmp_path, "run:\n  steps: 2000\n  seed: 7\noptim:\n  lr: 3e-4\n")
    for argv in (
        ["--config", path, "--run.steps", "3000"],
        ["--run.steps=3000", f"--config={path}"],
    ):
        config = load_config(argv)
        assert (config.run.steps, config.run.seed, config.optim.lr) == (3000, 7, 3e-4)


def test_a_negative_number_is_a_value_not_an_option():
    assert "optim.weight_decay is -0.1" in refusal("--optim.weight_decay", "-0.1")


@pytest.mark.parametrize("argv", [["--local_rank=1"], ["--local_rank", "1"], ["--local-rank=0"]])
def test_the_launchers_local_rank_is_ignored(argv):
    assert load_config([*argv, "--run.seed", "3"]) == load_config(["--run.seed", "3"])


@pytest.mark.parametrize(
    ("values", "files"),
    [
        (["a.txt"], ("a.txt",)),
        (["a.txt,b.txt"], ("a.txt", "b.txt")),
        (["a.txt", "b.txt"], ("a.txt", "b.txt")),
        (['["a.txt", "b,c.txt"]'], ("a.txt", "b,c.txt")),
        (["[ab]*.txt"], ("[ab]*.txt",)),
        (["shards/*.json.gz"], ("shards/*.json.gz",)),
    ],
)
def test_files_are_taken_in_every_form_a_person_writes(values, files):
    assert load_config(["--data.files", *values, "--data.source", "files"]).data.files == files


def test_files_in_a_recipe_are_a_list_or_one_string(tmp_path):
    listed = recipe(tmp_path, "data:\n  source: files\n  files: [a.txt, 'b,c.txt']\n")
    assert load_config(["--config", listed]).data.files == ("a.txt", "b,c.txt")
    single = recipe(tmp_path, "data:\n  source: files\n  files: '*.txt'\n")
    assert load_config(["--config", single]).data.files == ("*.txt",)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("no", False), ("on", True), ("False", False)]
)
def test_booleans(tmp_path, text, value):
    assert load_config(["--log.wandb", text]).log.wandb is value
    assert (
        load_config(["--config", recipe(tmp_path, f"log:\n  wandb: {text}\n")]).log.wandb is value
    )
    assert load_config(["--log.wandb", "--run.seed", "1"]).log.wandb is True
    assert load_config(["--max-hours", "1.5"]).run.max_hours == 1.5


def test_a_key_that_is_a_word_of_python_is_spelled_out_or_not(tmp_path):
    assert load_config([]).checkpoint.asynchronous == "auto"
    recipe = tmp_path / "recipe.yaml"
    for name in ("async", "asynchronous"):
        recipe.write_text(f"checkpoint:\n  {name}: false\n")
        config = load_config(["--config", str(recipe)])
        assert config.checkpoint.asynchronous is False
        assert load_config([f"--checkpoint.{name}", "true"]).checkpoint.asynchronous is True
        again = tmp_path / "again.yaml"
        again.write_text(dump_config(config))
        assert load_config(["--config", str(again)]) == config
    with pytest.raises(UserError, match=r"checkpoint\.asynchronous has two values"):
        load_config(["--checkpoint.async", "true", "--checkpoint.asynchronous", "false"])


def test_text_stays_text(tmp_path):
    assert load_config(["--config", recipe(tmp_path, "name: 010\noutput_dir: ''\n")]).name == "010"


def test_an_empty_recipe_and_an_empty_section_give_the_defaults(tmp_path):
    assert load_config(["--config", recipe(tmp_path, "# nothing\n")]) == TrainConfig()
    assert load_config(["--config", recipe(tmp_path, "run:\n  # steps: 3\n")]) == TrainConfig()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("run.gobal_batch", "run.global_batch"),
        ("global_batch", "run.global_batch"),
        ("run.lr", "optim.lr"),
        ("data.max-documents", "data.max_documents"),
        ("optimizer.weight_decay", "optim.weight_decay"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(key, near):
    message = refusal(f"--{key}=3")
    assert (
        repr(key) in message
        and "on the command line" in message
        and f"did you mean {near}?" in message
    )


def test_an_unknown_key_in_a_recipe_is_refused_with_its_line(tmp_path):
    message = refusal("--config", recipe(tmp_path, "run:\n  steps: 3000\n  gobal_batch: 4\n"))
    assert "recipe.yaml, line 3" in message and "did you mean run.global_batch?" in message


def test_nothing_near_points_at_help():
    assert "--help" in refusal("--xyzzy=3")


def test_a_section_is_no_key():
    assert "run.steps" in refusal("--run", "{steps: 3}")


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--run.steps=many", ["run.steps must be an integer", "'many'"]),
        ("--run.steps=1.5", ["an integer"]),
        ("--optim.lr=fast", ["optim.lr must be a number"]),
        ("--log.peak_tflops=fast", ["log.peak_tflops must be a number or auto"]),
        ("--log.peak_tflops=-1", ["log.peak_tflops is -1.0", "greater than 0"]),
        ("--eval.published_batch=0", ["eval.published_batch is 0", "at least 1"]),
        ("--log.profile_steps=0", ["log.profile_steps is 0", "at least 1"]),
        ("--log.wandb=perhaps", ["true or false"]),
        ("--decay.method=unifrm", ["alphadecay, uniform, none", "did you mean uniform?"]),
        ("--decay.compat=x", ['"", published']),
        ("--run.steps=", ["an integer"]),
    ],
)
def test_a_wrong_type_is_refused_with_what_is_allowed(argument, parts):
    message = refusal(argument)
    assert all(part in message for part in parts)


def test_a_wrong_type_in_a_recipe_names_the_line(tmp_path):
    message = refusal("--config", recipe(tmp_path, "run:\n\n  steps: many\n"))
    assert "run.steps must be an integer" in message and "line 3" in message
    assert "line 2" in refusal("--config", recipe(tmp_path, "run:\n  steps: [1, 2]\n"))
    assert "line 1" in refusal("--config", recipe(tmp_path, "run: 3\n"))
    assert "no value" in refusal("--config", recipe(tmp_path, "name:\n"))


def test_a_key_set_twice_is_refused(tmp_path):
    message = refusal("--config", recipe(tmp_path, "run:\n  steps: 1\nname: a\nrun:\n  steps: 2\n"))
    assert "run.steps is set twice" in message and "line 2" in message and "line 5" in message


def test_two_values_for_one_key_are_refused_with_both_places(tmp_path):
    assert "run.seed has two values: '3' on the command line, '4' on the command line" in refusal(
        "--run.seed=3", "--run.seed", "4"
    )
    assert load_config(["--run.seed=3", "--run.seed", "3"]).run.seed == 3
    paths = []
    for name, seed in (("a.yaml", 3), ("b.yaml", 4)):
        (tmp_path / name).write_text(f"run:\n  seed: {seed}\n")
        paths.append(str(tmp_path / name))
    message = refusal("--config", paths[0], "--config", paths[1])
    assert all(f"{path}, line 2" in message for path in paths)


def test_bad_yaml_is_refused_with_its_line(tmp_path):
    assert "in what began on line 2" in refusal("--config", recipe(tmp_path, "run:\n  steps: [3\n"))
    assert "line 3: not valid YAML" in refusal(
        "--config", recipe(tmp_path, "run:\n  steps: 3\n\tseed: 3\n")
    )
    assert "keys and values" in refusal("--config", recipe(tmp_path, "just words\n"))


def test_a_missing_recipe_is_refused_with_a_near_one(tmp_path):
    assert "did you mean quickstart?" in refusal("--config", "quikstart")
    assert "llama_60m" in refusal("--config", str(tmp_path / "none.yaml"))
    assert "cannot read" in refusal("--config", str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal("--config", str(tmp_path / "binary.yaml"))


def test_stray_words_and_missing_values_are_refused():
    assert "unexpected 'stray'" in refusal("stray")
    assert "--run.steps has no value" in refusal("--run.steps")
    assert "--config has no value" in refusal("--config", "--run.steps=3")


def test_help_documents_every_key_and_exits_0():
    code = f"{IMPORT}; load_command(['--config', 'x', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert all(f"--{key} " in text for key in known_keys())
    assert "usage: train/pretrain.py --config RECIPE" in text
    assert "optimizer steps between refreshes, not micro batches" in text
    assert "--model CONFIG" not in text


def test_it_runs_without_docstring_parser():
    without = "import sys; sys.modules['docstring_parser'] = None"
    code = f"{without}; {IMPORT}; load_command(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--run.steps" in done.stdout, done.stderr


def test_a_dump_reads_back_equal(tmp_path):
    config = load_config(
        [
            "--data.source=files",
            "--data.files=a,b",
            "--optim.lr=3e-7",
            "--name=für 1",
            "--log.wandb",
        ]
    )
    assert load_config(["--config", recipe(tmp_path, dump_config(config))]) == config


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("--model.hidden_size=500", "model.hidden_size"),
        ("--model.hidden_size=24", "model.hidden_size"),
        ("--model.num_kv_heads=3", "model.num_kv_heads"),
        ("--model.vocab_size=0", "model.vocab_size"),
        ("--run.steps=0", "run.steps"),
        ("--run.micro_batch=0", "run.micro_batch"),
        ("--run.micro_batch=1024", "run.micro_batch"),
        ("--run.steps=20", "optim.warmup_steps"),
        ("--optim.lr=0", "optim.lr"),
        ("--optim.lr=.inf", "optim.lr"),
        ("--optim.beta2=1", "optim.beta2"),
        ("--optim.weight_decay=-1", "optim.weight_decay"),
        ("--optim.min_lr_ratio=2", "optim.min_lr_ratio"),
        ("--decay.s1=6", "decay.s1"),
        ("--decay.s1=-1", "decay.s1"),
        ("--decay.lr_s1=6", "decay.lr_s1"),
        ("--decay.lr_until=0", "decay.lr_until"),
        ("--decay.interval=0", "decay.interval"),
        ("--data.validation_fraction=0", "data.validation_fraction"),
        ("--data.validation_fraction=0.6", "data.validation_fraction"),
        ("--data.sequence_length=1", "data.sequence_length"),
        ("--data.source=files", "data.files"),
        ("--data.files=a.txt", "data.files"),
        ("--eval.every=0", "eval.every"),
        ("--eval.probe_step=100000", "eval.probe_step"),
        ("--checkpoint.every=-1", "checkpoint.every"),
        ("--log.every=0", "log.every"),
        ("--name=a/b", "name"),
        ("--deepspeed.timeout_minutes=0", "deepspeed.timeout_minutes"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(argument, key):
    assert key in refusal(argument)


def test_what_is_just_in_range_is_taken():
    model = ModelConfig(num_kv_heads=2)
    data = DataConfig(validation_fraction=0.5)
    problems = Problems()
    check_values(TrainConfig(model=model, data=data, run=RunConfig(steps=1000)), problems, {})
    assert problems.found == []


def batches(**run):
    return dataclasses.replace(TrainConfig(), run=RunConfig(**run))


def test_accumulation_steps():
    assert accumulation_steps(batches(global_batch=512, micro_batch=16), 4) == 8
    assert accumulation_steps(batches(global_batch=32, micro_batch=16), 2) == 1


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers_and_a_way_out():
    with pytest.raises(UserError, match=r"500.*16 x 3 = 48.*global_batch 480 or 528") as caught:
        accumulation_steps(batches(global_batch=500, micro_batch=16), 3)
    # 500 is no multiple of 3: no micro batch helps
    assert "micro_batch" not in str(caught.value).split("set ")[1]
    with pytest.raises(UserError, match=r"set --run.global_batch 48, or --run.micro_batch 8"):
        accumulation_steps(batches(global_batch=24, micro_batch=16), 3)


def test_a_batch_is_checked_before_the_micro_batch_is_known():
    for wanted in ("auto", 16):
        check_batch(batches(global_batch=512, micro_batch=wanted), 4)
    assert rows_per_rank(batches(global_batch=512, micro_batch="auto"), 4) == 128
    with pytest.raises(UserError, match=r"500.*world size 3.*--run.global_batch 498 or 501"):
        check_batch(batches(global_batch=500, micro_batch="auto"), 3)
    with pytest.raises(UserError, match=r"--run.global_batch 8, or start another number of ranks"):
        check_batch(batches(global_batch=2, micro_batch="auto"), 8)
    with pytest.raises(UserError, match="16 x 3 = 48"):
        check_batch(batches(global_batch=500, micro_batch=16), 3)
    with pytest.raises(ValueError, match=r"run.micro_batch is auto"):
        accumulation_steps(batches(global_batch=512, micro_batch="auto"), 4)


@pytest.mark.parametrize(("text", "micro_batch"), [("auto", "auto"), ("24", 24)])
def test_a_micro_batch_is_a_number_or_auto(text, micro_batch):
    assert load_config([f"--run.micro_batch={text}"]).run.micro_batch == micro_batch
    assert "run.micro_batch must be an integer or" in refusal("--run.micro_batch=most")
