"""All pairs of numbers with their answers: some to train on, the others held out.

Shapes: P pairs; a row is the tokens a, b and "=", and the model's guess stands at the last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from train.config import TrainConfig
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.order import permute, rows_at

LENGTH = 3  # tokens of a row
_SIGNS = {"add": "+", "subtract": "−", "multiply": "·", "divide": "/"}


class Rows(NamedTuple):
    """Some of the pairs.

    tokens: int64 [P, 3].
    answers: int64 [P].
    """

    tokens: Tensor
    answers: Tensor


class Pairs(NamedTuple):
    """All pairs.

    training: those to train on.
    held_out: the others.
    formula: for a person.
    identity: of the pairs and of the order in which they are read.
    """

    training: Rows
    held_out: Rows
    formula: str
    identity: str


def split_pairs(config: TrainConfig) -> Pairs:
    """Return the pairs of a run: a function of its settings."""
    arithmetic = config.arithmetic
    modulus = arithmetic.modulus
    seed = config.run.seed_of_data
    first, second, answers = _table(arithmetic.operation, modulus)
    tokens = torch.stack([first, second, torch.full_like(first, modulus)], dim=1)
    count = len(answers)
    numbers = np.arange(count, dtype=np.int64)
    # no epoch has this number, whose order the rows of a batch are read in
    dealt = torch.from_numpy(permute(seed, np.full_like(numbers, -1), numbers, count))
    cut = max(1, round(arithmetic.train_share * count))
    training, held_out = dealt[:cut], dealt[cut:]
    formula = f"a {_SIGNS[arithmetic.operation]} b mod {modulus}"
    return Pairs(
        Rows(tokens[training], answers[training]),
        Rows(tokens[held_out], answers[held_out]),
        formula,
        f"{formula}, {cut} of {count} pairs, seed {seed}",
    )


def _table(operation: str, modulus: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return both numbers and the answer of every pair, int64 [P] each."""
    numbers = torch.arange(modulus)
    second = numbers[1:] if operation == "divide" else numbers
    a, b = (grid.flatten() for grid in torch.meshgrid(numbers, second, indexing="ij"))
    if operation == "add":
        return a, b, (a + b) % modulus
    if operation == "subtract":
        return a, b, (a - b) % modulus
    products = (a * b) % modulus
    if operation == "multiply":
        return a, b, products
    return products, b, a  # (a · b) / b = a


class PairBatches:
    """The batches of a run over all ranks.

    Args:
        rows: to train on.
        seed: of the order.
        global_batch: rows of a step.
    """

    def __init__(self, rows: Rows, seed: int, global_batch: int) -> None:
        self._rows = rows
        self._seed = seed
        self._global_batch = global_batch

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return a rank's share of batch k, one micro batch for each accumulation step."""
        first = k * self._global_batch
        positions = np.arange(first, first + self._global_batch, dtype=np.int64)
        numbers = torch.from_numpy(rows_at(self._seed, positions, len(self._rows.answers)))
        shares = numbers.reshape(-1, world_size, micro_batch)[:, rank]
        return [
            MicroBatch({"input_ids": self._rows.tokens[share]}, self._rows.answers[share], 1.0)
            for share in shares
        ]

    def tokens(self, k: int) -> int:
        """Return the tokens of batch k over all ranks."""
        return self._global_batch * LENGTH
