"""Describe what was chosen, for a person: a line a weight, a sentence in all, and what looks wrong.

Names, numbers and reasons in, text out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from alphadecay.modules import Choice
from alphadecay.spectral import Status

_LOG = logging.getLogger("alphadecay")
FEW = 4  # modules with an alpha, below which the map has next to nothing to compare
_NAMED = 3  # weights that the summary names


@dataclass(frozen=True)
class WeightLine:
    """This is one weight, or one part of it.

    Args:
        name: of the module, or of the parameter that is none.
        shape: of the matrix, or of the parameter.
        alpha: NaN where there is none.
        decay: at the last refresh; None for the base decay of its group.
        reason: why it has no alpha, as a clause; empty where it has one.
    """

    name: str
    shape: tuple[int, ...]
    alpha: float
    decay: float | None
    reason: str = ""


@dataclass(frozen=True)
class Description:
    """This says what AlphaDecay does with each weight of a model.

    Args:
        lines: in the model's order, gains and biases left out.
        gains_and_biases: how many those are.
        exempt: whether those have no decay, or else the base decay.
        score: what stands in alpha's place, "alpha" by default.
        notes: sentences about the choice.
    """

    lines: tuple[WeightLine, ...]
    gains_and_biases: int
    exempt: bool
    score: str
    notes: tuple[str, ...] = ()

    @property
    def with_alpha(self) -> int:
        """Count the weights that have an alpha."""
        return sum(not line.reason for line in self.lines)

    @property
    def summary(self) -> str:
        """Say in a sentence how many weights have an alpha, which have none, and why."""
        total = len(self.lines) + self.gains_and_biases
        left = [line for line in self.lines if line.reason]
        clauses = [f"{self.with_alpha} of {_weights(total)} have {_article(self.score)}"]
        if left:
            named = [f"{line.name} ({line.reason})" for line in left[:_NAMED]]
            more = [f"and {len(left) - _NAMED} more"] if len(left) > _NAMED else []
            clauses.append(f"{len(left)} left at the base decay: {', '.join([*named, *more])}")
        if self.gains_and_biases:
            decay = "no decay" if self.exempt else "the base decay"
            clauses.append(f"{self.gains_and_biases} gains and biases with {decay}")
        return "; ".join(clauses)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return sentences about what is likely not meant."""
        if self.with_alpha >= FEW:
            return self.notes
        return (
            *self.notes,
            f"{self.summary}: with fewer than {FEW} there is little to compare. Weights that are "
            "not trained, as under LoRA, have none; include=[...] takes more",
        )

    def log(self) -> None:
        """Log the summary, and every warning as one."""
        _LOG.info("AlphaDecay: %s", self.summary)
        for warning in self.warnings:
            _LOG.warning("AlphaDecay: %s", warning)

    def __str__(self) -> str:
        """Return the summary and a line for each weight."""
        names = max((len(line.name) for line in self.lines), default=0)
        shapes = [" x ".join(map(str, line.shape)) for line in self.lines]
        widest = max(map(len, shapes), default=0)
        rows = [
            f"{line.name:{names}}  {shape:>{widest}}  {_outcome(line, self.score)}"
            for line, shape in zip(self.lines, shapes, strict=True)
        ]
        return "\n".join([self.summary, *rows])


def describe(
    choice: Choice,
    alphas: Mapping[str, float],
    statuses: Mapping[str, str],
    decays: Mapping[str, float],
    *,
    exempt: bool = True,
    score: str = "alpha",
) -> Description:
    """Return the description of a choice and of its last refresh.

    Args:
        alphas: by module; NaN or nothing where there is none.
        statuses: labels of the modules that have none.
        decays: by module.
        exempt: whether gains and biases have no decay.
        score: what stands in alpha's place.
    """
    by_parameter: dict[str, list[WeightLine]] = {}
    for module in choice.modules:
        alpha = alphas.get(module.name, math.nan)
        reason = "" if math.isfinite(alpha) else _why(statuses.get(module.name, ""))
        line = WeightLine(module.name, module.shape, alpha, decays.get(module.name), reason)
        by_parameter.setdefault(module.name.partition("[")[0], []).append(line)
    lines: list[WeightLine] = []
    for name, shape in choice.shapes.items():
        if name in choice.exempt:
            continue
        left = WeightLine(name, shape, math.nan, None, choice.reasons.get(name, ""))
        lines += by_parameter.get(name, [left])
    return Description(tuple(lines), len(choice.exempt), exempt, score, choice.warnings)


def log_thawed(choice: Choice) -> None:
    """Log as a warning that weights are trained by now which were not when AlphaDecay was made."""
    if choice.thawed:
        _LOG.warning(
            "AlphaDecay: %s not trained when it was made, and trained now, such as %s: without an "
            "alpha; to give them one, call remove() and make AlphaDecay again",
            _weights(len(choice.thawed)),
            choice.thawed[0],
        )


def _why(status: str) -> str:
    if not status:
        return "it was not measured"
    return f"it is {status}: {Status[status.upper()].advice}"


def _outcome(line: WeightLine, score: str) -> str:
    decay = "" if line.decay is None else f" {line.decay:.4g}"
    if line.reason:
        return f"base decay{decay}, because {line.reason}"
    return f"{score} {line.alpha:.4g}, decay{decay}"


def _weights(count: int) -> str:
    return f"{count} weight" if count == 1 else f"{count} weights"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
