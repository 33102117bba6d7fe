"""The pairs of modular arithmetic: right answers, none in both parts, the same on any ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from train.config import ArithmeticConfig, RunConfig, TrainConfig
from train.tasks.modular_arithmetic.pairs import PairBatches, split_pairs

REVERSED = {
    "add": lambda a, b, c, p: (c - b) % p == a,
    "subtract": lambda a, b, c, p: (c + b) % p == a,
    "multiply": lambda a, b, c, p: sum([a] * b) % p == c,
    "divide": lambda a, b, c, p: sum([c] * b) % p == a,
}


def config_of(operation: str = "add", seed: int = 3, share: float = 0.4) -> TrainConfig:
    arithmetic = ArithmeticConfig(operation, modulus=11, train_share=share)  # type: ignore[arg-type]
    return TrainConfig(task="modular_arithmetic", arithmetic=arithmetic, run=RunConfig(seed=seed))


@pytest.mark.parametrize("operation", REVERSED)
def test_every_pair_is_once_there_with_its_answer(operation):
    pairs = split_pairs(config_of(operation))
    tokens = torch.cat([pairs.training.tokens, pairs.held_out.tokens])
    answers = torch.cat([pairs.training.answers, pairs.held_out.answers])
    seen = {(a, b) for a, b, _ in tokens.tolist()}
    count = 110 if operation == "divide" else 121  # none is divided by zero
    assert len(tokens) == len(answers) == len(seen) == count
    assert len(pairs.training.answers) == round(0.4 * count)
    for (a, b, sign), c in zip(tokens.tolist(), answers.tolist(), strict=True):
        assert sign == 11 and 0 <= c < 11
        assert REVERSED[operation](a, b, c, 11)


def test_the_seed_decides_which_are_held_out():
    one, again, other = (split_pairs(config_of(seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(one.training.tokens, again.training.tokens)
    assert one.identity == again.identity != other.identity
    shared = set(map(tuple, one.training.tokens.tolist())) & set(
        map(tuple, other.training.tokens.tolist())
    )
    assert 0 < len(shared) < 48  # drawn anew: 48 of 121 share some 19


def test_a_batch_is_the_same_on_any_ranks():
    rows = split_pairs(config_of()).training
    batches = PairBatches(rows, seed=3, global_batch=16)
    whole = batches.batch(5, 0, 1, 16)[0]
    for ranks, micro in ((1, 4), (2, 4), (4, 2)):
        shares = [batches.batch(5, rank, ranks, micro) for rank in range(ranks)]
        steps = [
            torch.cat([m.inputs["input_ids"] for m in step]) for step in zip(*shares, strict=True)
        ]
        assert torch.equal(torch.cat(steps), whole.inputs["input_ids"])
        targets = [torch.cat([m.targets for m in step]) for step in zip(*shares, strict=True)]
        assert torch.equal(torch.cat(targets), whole.targets)
    assert batches.tokens(5) == 48


def test_an_epoch_reads_every_pair_once():
    config = config_of()
    rows = split_pairs(config).training
    count = len(rows.answers)
    batches = PairBatches(rows, seed=3, global_batch=count)  # full batches
    for k in range(3):
        tokens = batches.batch(k, 0, 1, count)[0].inputs["input_ids"].tolist()
        assert sorted(tokens) == sorted(rows.tokens.tolist())


def test_other_settings_are_other_pairs():
    config = config_of()
    wider = replace(config, arithmetic=replace(config.arithmetic, train_share=0.5))
    assert split_pairs(wider).identity != split_pairs(config).identity
