"""A key that does not exist is answered with the one that was meant, also in others' words."""

from __future__ import annotations

import pytest

from train.config.key_registry import known_keys, sections
from train.config.synonyms import KEY_SYNONYMS, NOTES, SECTION_SYNONYMS
from train.config.unknown_keys import check_known, meant_keys, meant_section
from train.errors import Problems


def test_every_synonym_means_a_key_that_exists_and_hides_none():
    assert {key for meant in KEY_SYNONYMS.values() for key in meant} <= set(known_keys())
    assert {section for meant in SECTION_SYNONYMS.values() for section in meant} <= sections()
    assert not set(KEY_SYNONYMS) & set(known_keys())
    assert not set(SECTION_SYNONYMS) & sections()
    assert set(NOTES) <= set(KEY_SYNONYMS)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.learning_rate", ["optim.lr"]),
        ("learning_rate", ["optim.lr"]),
        ("lr", ["optim.lr"]),
        ("optimizer.lr", ["optim.lr"]),
        ("optimizer", ["optim.name"]),
        ("batch_size", ["run.global_batch", "run.micro_batch"]),
        ("run.batch_size", ["run.global_batch", "run.micro_batch"]),
        ("eval.batch_size", ["eval.micro_batch"]),
        ("per_device_train_batch_size", ["run.micro_batch"]),
        ("training.local_batch_size", ["run.micro_batch"]),
        ("training.steps", ["run.steps"]),
        ("max_iters", ["run.steps"]),
        ("num_train_epochs", ["run.steps"]),
        ("model.n_layer", ["model.num_layers"]),
        ("model.n_embd", ["model.hidden_size"]),
        ("block_size", ["data.sequence_length"]),
        ("max-grad-norm", ["optim.grad_clip"]),
        ("warmup_ratio", ["optim.warmup_steps"]),
        ("save_steps", ["checkpoint.every"]),
        ("checkpoint.interval", ["checkpoint.every"]),
        ("report_to", ["log.wandb", "log.tensorboard"]),
        ("logging_steps", ["log.every"]),
        ("zero_stage", ["deepspeed.config"]),
        ("BF16", ["run.precision"]),
        ("seed", ["decay.seed", "run.seed"]),
        ("adam_beta2", ["optim.beta2"]),
        ("wd", ["optim.weight_decay"]),
        ("decay.intervall", ["decay.interval"]),
        ("evl.every", ["eval.every"]),
        ("xyzzy", []),
    ],
)
def test_the_key_that_was_meant(key, meant):
    assert list(meant_keys(key)) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("optimizer", "optim"),
        ("training", "run"),
        ("Dataset", "data"),
        ("logging", "log"),
        ("optm", "optim"),
        ("xyzzy", ""),
    ],
)
def test_the_section_that_was_meant(name, meant):
    assert meant_section(name) == meant


def test_a_note_stands_where_the_meaning_differs():
    problems = Problems()
    assert not check_known("gradient_accumulation_steps", "on the command line", problems)
    assert problems.found == [
        "unknown key 'gradient_accumulation_steps' on the command line; did you mean "
        "run.global_batch or run.micro_batch? (it follows from both and the number of ranks)"
    ]
    assert problems.in_doubt("run.micro_batch") and not problems.in_doubt("run.steps")
