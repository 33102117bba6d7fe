"""What a user can mend is one message that names it, before training starts: no traceback, and an
exit code that is not 0.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.program import VOCABULARY, start, write_corpus, write_recipe
from train.config.command_line import load_config
from train.config.validate import accumulation_steps
from train.data.preparing.prepare import prepare
from train.engines.ds_config import load_ds_config
from train.errors import UserError


def refused(outcome, *parts):
    """The message of a run that was refused by its own `error:` line."""
    assert outcome.code == 2, outcome.output
    assert "Traceback" not in outcome.output, outcome.output
    messages = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, outcome.output
    for part in parts:
        assert part in messages[0], messages[0]
    return messages[0]


def load(workplace, *arguments):
    return load_config(["--config", str(workplace.recipe), *arguments])


# -- the program itself
# -----------------------------------------------------------------------------------------------


def test_a_truncated_corpus_file(workplace, tmp_path):
    write_corpus(tmp_path, documents=400)
    path = tmp_path / "part-1.json.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    data = ("--data.files", str(tmp_path / "*.gz"), "--data.directory", str(tmp_path / "p"))
    outcome = workplace.run(1, "refused-truncated", *data)
    refused(outcome, str(path), "truncated")
    assert (
        not list((tmp_path / "p").glob("*/meta.json"))
        and not (workplace.folder / "refused-truncated/metrics.jsonl").exists()
    )


def test_a_tokenizer_larger_than_the_model(workplace, finished):
    finished("python")
    tokenizer = next((workplace.folder / "prepared").glob("*/tokenizer.model"))
    outcome = workplace.run(
        1,
        "refused-tokenizer",
        "--data.tokenizer",
        str(tokenizer),
        "--model.vocab_size",
        "300",
    )
    refused(outcome, str(tokenizer), f"{VOCABULARY} pieces", "model.vocab_size is 300")


def test_a_checkpoint_of_another_model(workplace, finished):
    whole = finished("python")
    folder = workplace.folder / "refused-model"
    shutil.copytree(whole, folder)
    before = contents(folder)
    outcome = workplace.run(1, folder.name, "--model.hidden_size", "64")
    refused(outcome, "step-00000006", "model.hidden_size was 32, is 64", "--output_dir")
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file but the lease, which says who was there last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if not path.name.startswith(".lease-")}


def test_what_alphadecay_refuses_is_said_in_one_line(workplace):
    """AlphaDecay raises ValueError; the program shows its message."""
    outcome = workplace.run(1, "refused-decay", "--optim.weight_decay", "0")
    refused(outcome, "decay.method alphadecay", "optim.weight_decay, which is 0")
    assert not (workplace.folder / "refused-decay/metrics.jsonl").exists()


def test_two_ranks_say_it_once(workplace):
    outcome = workplace.start("torchrun", "refused-ranks", "--run.global_batch", "5")
    assert outcome.code != 0
    lines = outcome.output.strip().splitlines()
    said = [at for at, line in enumerate(lines) if "error: run.global_batch is 5" in line]
    # at once, and again at the end of torchrun's report of itself, above its last rule
    assert len(said) == 2 and said[-1] == len(lines) - 2, outcome.output
    assert set(lines[-1]) == {"="} and "--run.global_batch 4 or 6" in lines[-2], outcome.output
    assert not (workplace.folder / "refused-ranks").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--optim.learning_rate", "1"],
            ["unknown key 'optim.learning_rate'", "did you mean optim.lr?"],
        ),
        (["--decay.intervall", "5"], ["decay.intervall", "did you mean decay.interval?"]),
        (["--run.steps", "many"], ["run.steps", "an integer", "'many'"]),
        (
            ["--run.global_batch", "5", "--run.micro_batch", "2"],
            ["run.global_batch is 5", "4 or 6", "--run.micro_batch 1"],
        ),
    ],
)
def test_a_wrong_command_line_is_refused(workplace, arguments, parts):
    outcome = workplace.run(1, "refused-early", *arguments)
    refused(outcome, *parts)
    assert not (workplace.folder / "refused-early").exists()


def test_every_mistake_of_a_command_line_is_told_at_once(workplace):
    wrong = ("--optim.learning_rate", "1", "--run.steps", "many", "--decay.interval", "0")
    outcome = workplace.start("python", "refused-at-once", *wrong)
    assert outcome.code == 2 and not (workplace.folder / "refused-at-once").exists()
    assert outcome.output.splitlines() == [
        "error: 3 problems:",
        "  unknown key 'optim.learning_rate' on the command line; did you mean optim.lr?",
        "  run.steps must be an integer, not 'many' on the command line",
        "  decay.interval is 0; it must be at least 1",
    ]


def test_no_recipe_is_no_run(tmp_path):
    outcome = start("python", tmp_path)
    refused(outcome, "no recipe", "--config NAME", "quickstart")
    assert list(tmp_path.iterdir()) == []


def test_a_started_program_refuses_in_the_same_words(workplace):
    outcome = workplace.start("python", "refused-early", "--run.steps", "many")
    refused(outcome, "run.steps", "an integer", "'many'")
    assert not (workplace.folder / "refused-early").exists()


# -- the same functions, called
# -----------------------------------------------------------------------------------------


def test_an_unknown_key_and_a_wrong_type_in_the_recipe(workplace, tmp_path):
    wrong = (
        ("decay", "intervall", 5, "did you mean decay.interval?"),
        ("run", "seed", "lucky", "an integer"),
    )
    for section, key, value, expected in wrong:
        values = workplace.values | {section: workplace.values[section] | {key: value}}
        path = write_recipe(tmp_path / f"{key}.yaml", values)
        with pytest.raises(UserError) as caught:
            load_config(["--config", str(path)])
        assert (
            f"{section}.{key}" in str(caught.value)
            and expected in str(caught.value)
            and f"{path}, line " in str(caught.value)
        )


def test_a_corpus_that_is_missing_empty_or_no_text(workplace, tmp_path):
    empty = tmp_path / "empty.json.gz"
    hollow = tmp_path / "hollow.json.gz"
    plain = tmp_path / "plain.json.gz"
    empty.touch()
    hollow.write_bytes(gzip.compress(b""))
    plain.write_text('{"text": "not compressed"}\n')
    for path, said in (
        (tmp_path / "missing.json.gz", "does not exist"),
        (tmp_path / "none-*.json.gz", "no file matches"),
        (empty, "is empty"),
        (hollow, "no documents"),
        (plain, "not gzip"),
        (tmp_path, "is a folder"),
    ):
        config = load(
            workplace, "--data.files", str(path), "--data.directory", str(tmp_path / "prepared")
        )
        with pytest.raises(UserError) as caught:
            prepare(config.data, config.model.vocab_size)
        assert str(path) in str(caught.value) and said in str(caught.value), str(caught.value)


def test_a_vocabulary_the_corpus_cannot_fill(workplace, tmp_path):
    config = load(workplace, "--model.vocab_size", "30000", "--data.directory", str(tmp_path))
    with pytest.raises(UserError, match=r"30000 pieces.*model\.vocab_size"):
        prepare(config.data, config.model.vocab_size)


def test_a_deepspeed_file_that_contradicts_the_recipe(workplace, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train_batch_size": 64, "zero_optimization": {"stage": 3}}))
    config = load(workplace, "--deepspeed.config", str(path))
    with pytest.raises(UserError) as caught:
        load_ds_config(config, accumulation_steps(config, 1), 1)
    for part in (str(path), "train_batch_size", "64", "run.global_batch", "4"):
        assert part in str(caught.value)
    config = load(workplace, "--deepspeed.config", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"none\.json.*ds_configs"):
        load_ds_config(config, accumulation_steps(config, 1), 1)
