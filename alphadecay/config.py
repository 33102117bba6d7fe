"""AlphaDecayConfig: every choice of the method, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tail = Literal["hill", "goodness_of_fit", "fix_finger"]
Method = Literal["gram", "svd"]
Assign = Literal["linear", "sqrt", "log2"]

_CHOICES: dict[str, tuple[object, ...]] = {
    "tail": ("hill", "goodness_of_fit", "fix_finger"),
    "method": ("gram", "svd"),
    "assign": ("linear", "sqrt", "log2"),
    "compat": (None, "published"),
}


@dataclass(frozen=True)
class AlphaDecayConfig:
    """Choices of AlphaDecay (arXiv 2506.14562).

    Args:
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the smallest alpha (heaviest tail), as a multiple of the base decay.
        s2: decay of the largest alpha (lightest tail), as a multiple of the base decay.
        tail: how PL_Alpha is fitted; "hill" is the paper's.
        method: "gram" (eigenvalues of the smaller Gram matrix) or "svd" (singular values, squared).
        assign: map from alpha to decay; "sqrt" and "log2" take no s1 and s2.
        compat: "published" reproduces the published code's deviations; None follows the paper.
        spread: optimizer steps over which a refresh is solved; 0 solves all at once.

    Raises:
        ValueError: a value outside its range; the message names it.
    """

    interval: int = 500
    s1: float = 0.67
    s2: float = 5.0
    tail: Tail = "hill"
    method: Method = "gram"
    assign: Assign = "linear"
    compat: Literal["published"] | None = None
    spread: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, must be one of {', '.join(map(repr, choices))}")
        if self.interval < 1:
            raise ValueError(f"interval is {self.interval}, must be at least 1 optimizer step")
        if not 0 <= self.s1 <= self.s2 < float("inf"):
            raise ValueError(f"s1 and s2 are {self.s1} and {self.s2}, must be 0 <= s1 <= s2")
        if self.spread != 0:
            raise ValueError(f"spread is {self.spread}; only 0 (the whole refresh at one step) works in this version")

    @property
    def published(self) -> bool:
        """True in compat="published" mode."""
        return self.compat == "published"
