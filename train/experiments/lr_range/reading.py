"""Reads a range test: where the loss falls fastest, where it is least, and what peak to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from train.errors import UserError

REACH = 0.04  # share of all steps on each side that a running mean takes in
DIVERGED = 4.0  # a loss so many times the least ends the test: what follows tells nothing
FEWEST = 10  # steps that can be read
MARGIN = 10.0  # the peak that is suggested lies so far below the rate of the least loss


@dataclass(frozen=True)
class Reading:
    """What a range test says.

    Args:
        rates: learning rate of each step that counts, rising.
        losses: loss of each.
        smoothed: its running mean.
        steepest: rate at which the running mean falls fastest, by the logarithm of the rate.
        least: rate at which it is least.
        whole: whether the loss had begun to rise before the last rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    least: float
    whole: bool

    @property
    def suggested(self) -> float:
        """A peak learning rate: a tenth of the rate at which the loss is least."""
        return self.least / MARGIN


def read_range(rates: Sequence[float], losses: Sequence[float]) -> Reading:
    """Return what losses at rising learning rates say (arXiv 1803.09820, section 4.1).

    Args:
        losses: of training; the first that is not finite ends the test.

    Raises:
        UserError: fewer than FEWEST steps count.
    """
    smoothed = _smoothed(losses)
    count = len(smoothed)
    if count < FEWEST:
        raise UserError(
            f"the loss diverged after {count} steps, and {FEWEST} are needed; begin lower, --from"
        )
    least = min(range(count), key=smoothed.__getitem__)
    slopes = [
        (smoothed[at + 1] - smoothed[at - 1]) / math.log(rates[at + 1] / rates[at - 1])
        for at in range(1, count - 1)
    ]
    steepest = 1 + min(range(len(slopes)), key=slopes.__getitem__)
    return Reading(
        tuple(rates[:count]),
        tuple(losses[:count]),
        tuple(smoothed),
        rates[steepest],
        rates[least],
        whole=count < len(losses) or least < count - 1,
    )


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return the running mean, of as many steps before as after, until it diverges."""
    finite = next((at for at, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    reach = max(1, round(REACH * len(losses)))
    means: list[float] = []
    for step in range(finite):
        mean = fmean(losses[max(0, step - reach) : min(finite, step + reach + 1)])
        if means and mean > DIVERGED * min(means):
            break
        means.append(mean)
    return means


def in_words(reading: Reading) -> str:
    """Return what a person should know."""
    told = (
        f"The loss falls fastest at {reading.steepest:.2g} and is least at {reading.least:.2g}. "
        f"A peak to begin with: --optim.lr {reading.suggested:.2g}, a tenth of that."
    )
    if not reading.whole:
        last = reading.rates[-1]
        told += f" It was still falling at the last rate, {last:.2g}: go further with --to."
    return told
