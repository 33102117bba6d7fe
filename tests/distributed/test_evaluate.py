"""Validation on 1, 2 and 3 ranks, with rows that do not divide and labels that do not count: one
figure.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.bench.counting import CountCollectives
from tests.bench.step import ds_config
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.engines import PlainEngine
from train.cluster.distributed import World
from train.config import EvalConfig, ModelConfig, TrainConfig
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.rows import IGNORED, Labelled
from train.engines.deepspeed import DeepSpeedEngine
from train.models import spec_of
from train.models.build import build_model
from train.tasks.language_modelling.evaluation import evaluate, published_loss
from train.tasks.language_modelling.task import LanguageModelling

MODEL = ModelConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2)
ROWS = 7
LENGTH = 12
PUBLISHED_BATCH = 3


def data() -> Labelled:
    """Rows of 12, 11, ... 6 real tokens."""
    tokens = torch.randint(0, 64, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    labels = tokens.clone()
    for row in range(ROWS):
        labels[row, LENGTH - row :] = IGNORED
    return Labelled(tokens, labels)


def model() -> torch.nn.Module:
    return build_model(MODEL, LENGTH, seed=3).double()


def evaluated(rank: int, size: int) -> list[tuple[float, float, int]]:
    world = World(rank, rank, size, torch.device("cpu"))
    engine = model()
    rows = data()
    found = [
        evaluate(PlainEngine(engine), rows, micro, world, PUBLISHED_BATCH) for micro in (1, 2, 4)
    ]
    assert engine.training
    return [(one.loss, one.published_loss, one.tokens) for one in found]


def followed(rank: int, size: int) -> tuple[list[int], dict[str, float], float]:
    """The batches asked for, the record of a validation, and the loss of the rows by themselves."""
    world = World(rank, rank, size, torch.device("cpu"))
    rows = data()
    asked = []

    def batch(k: int, of_rank: int, of_ranks: int, micro_batch: int) -> list[MicroBatch]:
        asked.append(k)
        assert (of_rank, of_ranks, micro_batch) == (0, 1, 3)
        inputs = {"input_ids": rows.tokens[:3], "labels": rows.labels[:3]}
        return [MicroBatch(inputs, None, 1.0)]

    batches: Any = SimpleNamespace(global_batch=3, batch=batch)
    config = TrainConfig(eval=EvalConfig(probe_step=4, micro_batch=2))
    prepared: Any = None
    task = LanguageModelling(config, world, prepared, batches, rows, None, "")
    engine = PlainEngine(model())
    alone = evaluate(engine, Labelled(rows.tokens[:3], rows.labels[:3]), 3, world).loss
    return asked, task.evaluate(engine), alone


@pytest.mark.parametrize("size", [1, 2])
def test_rows_of_a_step_are_followed_beside_the_held_out_ones(size: int) -> None:
    for asked, record, alone in run_ranks(size, followed, size):
        assert asked == [3]  # the fourth step's
        assert record["probe_loss"] == pytest.approx(alone, rel=1e-12)
        assert record["val_loss"] != record["probe_loss"]


def by_hand() -> tuple[float, float, int]:
    """A row at a time, token by token, without any batch."""
    rows = data()
    figures = []
    with torch.no_grad():
        for tokens, labels in zip(*rows, strict=True):
            log_p = model()(input_ids=tokens[None]).logits[0].log_softmax(-1)
            losses = [
                -log_p[i, labels[i + 1]].item()
                for i in range(LENGTH - 1)
                if labels[i + 1] != IGNORED
            ]
            figures.append((sum(losses), len(losses)))
    loss, count = (sum(column) for column in zip(*figures, strict=True))
    return (
        loss / count,
        published_loss(torch.tensor(figures, dtype=torch.float64), PUBLISHED_BATCH),
        count,
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_same_figure_on_any_world_size(size: int) -> None:
    expected = by_hand()
    for found in (figures for rank in run_ranks(size, evaluated, size) for figures in rank):
        assert found[2] == expected[2] == sum(range(LENGTH - ROWS, LENGTH))
        assert found[:2] == pytest.approx(expected[:2], rel=1e-9)  # float64, sums in another order


def gathers_of_a_step(rank: int, leaf: bool, evaluate_first: bool) -> list[int]:
    """Gathers of forward and backward, step by step, under ZeRO-3."""
    import deepspeed

    config: dict[str, Any] = ds_config(3, 2) | {
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 32}
    }
    llama = build_model(MODEL, LENGTH, seed=3, ds_config=config)
    for layer in spec_of(MODEL).layers(llama):
        deepspeed.utils.set_z3_leaf_module(layer, leaf)
    engine, *_ = deepspeed.initialize(
        model=llama, optimizer=torch.optim.AdamW(llama.parameters()), config=config
    )
    if evaluate_first:
        evaluate(DeepSpeedEngine(engine), data(), 1, World(rank, rank, 2, torch.device("cpu")))
    counts = []
    for _ in range(5):
        with CountCollectives() as collectives:
            engine.backward(engine(input_ids=data().tokens[:2], labels=data().labels[:2]).loss)
        counts.append(sum(n for name, n in collectives.calls.items() if "gather" in name))
        engine.step()
    return counts


def gathers_alone_and_after(rank: int) -> list[tuple[list[int], list[int]]]:
    """Gathers without and with an evaluation before them, by module and by layer."""
    init_deepspeed()
    return [
        (gathers_of_a_step(rank, leaf, False), gathers_of_a_step(rank, leaf, True))
        for leaf in (False, True)
    ]


def test_an_evaluation_before_training_costs_no_gathers_later() -> None:
    for alone, after in run_ranks(2, gathers_alone_and_after)[0]:
        # once traced, weights are gathered ahead and kept for the backward
        assert alone[-1] < alone[0]
        assert after[-1] == alone[-1]
