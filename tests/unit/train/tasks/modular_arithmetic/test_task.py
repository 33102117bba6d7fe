"""What a validation of modular arithmetic says, against a count by hand, on one rank and on two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from train.cluster.distributed import World
from train.config import ArithmeticConfig, ModelConfig, RunConfig, TrainConfig
from train.config.command_line import load_config
from train.engines.protocol import LogitsOf
from train.errors import UserError
from train.planning.dry_run import dry_run
from train.tasks.modular_arithmetic.pairs import split_pairs
from train.tasks.modular_arithmetic.task import ModularArithmetic

MODULUS = 7
CONFIG = TrainConfig(
    task="modular_arithmetic",
    model=ModelConfig(vocab_size=8),
    arithmetic=ArithmeticConfig(modulus=MODULUS, train_share=0.5),
    run=RunConfig(global_batch=4, micro_batch=4, seed=1),
)
ARGUMENTS = ("--task=modular_arithmetic", "--arithmetic.modulus=7", "--model.vocab_size=8")


class Guesser:
    """An engine that knows the answers but where a is 0: there it guesses 1 instead of b."""

    @contextmanager
    def evaluating(self) -> Iterator[LogitsOf]:
        yield self.logits_of

    @staticmethod
    def logits_of(inputs: Mapping[str, Tensor]) -> Tensor:
        tokens = inputs["input_ids"]
        guesses = torch.where(tokens[:, 0] == 0, 1, (tokens[:, 0] + tokens[:, 1]) % MODULUS)
        logits = torch.zeros(len(tokens), 3, 8)
        logits[torch.arange(len(tokens)), 2, guesses] = 2.0
        logits[:, :2] = torch.randn(
            len(tokens), 2, 8
        )  # what stands before the sign is not looked at
        return logits


def world(rank: int, ranks: int) -> World:
    return World(rank, rank, ranks, torch.device("cpu"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_figures_are_of_all_held_out_pairs_on_any_ranks(ranks, monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", lambda sums: None)  # so that each rank has its share
    task = ModularArithmetic
    shares = [task(CONFIG, world(rank, ranks)).evaluate(Guesser()) for rank in range(ranks)]  # type: ignore[arg-type]
    figures = {name: sum(share[name] for share in shares) for name in shares[0]}
    pairs = split_pairs(CONFIG)
    parts = {"val_accuracy": pairs.held_out, "train_accuracy": pairs.training}
    right = {
        name: sum(a > 0 or b == 1 for a, b, _ in rows.tokens.tolist()) / len(rows.answers)
        for name, rows in parts.items()
    }
    assert min(right.values()) > 0.8 and max(right.values()) < 1
    for name, share in right.items():
        assert figures[name] == pytest.approx(100 * share)
    log_z = math.log(7 + math.exp(2))
    assert figures["val_loss"] == pytest.approx(log_z - 2 * right["val_accuracy"], rel=1e-5)


def test_the_loss_is_of_the_answer_alone():
    task = ModularArithmetic(CONFIG, world(0, 1))
    logits = torch.randn(5, 3, 8, requires_grad=True)
    answers = torch.tensor([0, 1, 2, 3, 6])
    loss = task.loss(SimpleNamespace(logits=logits), answers)
    expected = -logits[:, 2].log_softmax(-1)[torch.arange(5), answers].mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None and not logits.grad[:, :2].any()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("--model.vocab_size=7", "model.vocab_size is 7.*at least arithmetic.modulus . 1 = 8"),
        ("--arithmetic.modulus=6 --arithmetic.operation=divide", "modulus is 6.*must be a prime"),
        ("--decay.base=auto", "decay.base is auto, a rule that counts the tokens of a text"),
        ("--loss.z_loss=0.1", "loss.z_loss is 0.1.*task modular_arithmetic has no place"),
        ("--model.architecture=gpt2 --model.quantize=b158-mean", "model.quantize is b158-mean"),
    ],
)
def test_what_cannot_be(extra, said):
    with pytest.raises(UserError, match=said):
        own = {argument.partition("=")[0] for argument in extra.split()}
        common = [each for each in ARGUMENTS if each.partition("=")[0] not in own]
        load_config([*common, *extra.split()])


def test_a_dry_run_counts_the_pairs():
    sizes = ("--run.steps=12", "--run.global_batch=4", "--run.micro_batch=4")
    config = load_config([*ARGUMENTS, *sizes, "--optim.warmup_steps=0", "--data.source=stdlib"])
    found = dry_run(config, 1)
    assert found.problems == ()
    lines = [line for block in found.details for line in block]
    assert "Pairs 48: 12 steps of 4 rows of 3 tokens" in lines
    assert "  a + b mod 7: 24 pairs to train on, 2.0 epochs; 25 held out" in lines
