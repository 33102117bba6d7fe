"""Settings of the task modular_arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least, within


@dataclass(frozen=True)
class ArithmeticConfig:
    """What is reckoned: c = a ∘ b modulo a number, for all pairs a, b (arXiv 2201.02177).

    Args:
        operation: add, subtract, multiply or divide, for which the modulus must be a prime.
        modulus: of the arithmetic; model.vocab_size must be one more at least, for the sign "=".
        train_share: share of the pairs that is trained on, drawn by run.data_seed; the others are
            held out.
    """

    operation: Literal["add", "subtract", "multiply", "divide"] = "add"
    modulus: Annotated[int, at_least(2)] = 97
    train_share: Annotated[float, within(0, 1, low_open=True, high_open=True)] = 0.5
