"""AlphaDecayConfig: every choice of the method, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Tail = Literal["hill", "goodness_of_fit", "fix_finger"]
Method = Literal["gram", "svd", "farms", "moments"]
Assign = Literal["linear", "sqrt", "log2"]
Score = Literal["alpha", "frobenius_norm", "spectral_norm"]
Towards = Literal["zero", "start"]
Drives = Literal["decay", "lr", "both"]
Control = Literal["inverted", "shuffled", "uniform_at_mean", "fixed_ratio"]

_CHOICES: dict[str, tuple[object, ...]] = {
    "tail": get_args(Tail),
    "method": get_args(Method),
    "assign": get_args(Assign),
    "score": get_args(Score),
    "compat": (None, "published"),
    "towards": get_args(Towards),
    "control": (None, *get_args(Control)),
    "drives": get_args(Drives),
}


@dataclass(frozen=True)
class AlphaDecayConfig:
    """Choices of AlphaDecay (arXiv 2506.14562).

    Args:
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the smallest alpha (heaviest tail), as a multiple of the base decay.
        s2: decay of the largest alpha (lightest tail), as a multiple of the base decay.
        tail: how PL_Alpha is fitted; "hill" is the paper's.
        method: "gram" (eigenvalues of the smaller Gram matrix), "svd" (singular values, squared),
            "farms" (the pooled spectrum of square windows, arXiv 2506.06280: alpha free of the
            aspect ratio; with tail "hill" only) or "moments" (products instead of eigenvalues,
            for GPUs on which many weights share a shape: alpha within 1e-3; with tail "hill" only).
        assign: map from alpha to decay; "sqrt" and "log2" take no s1 and s2.
        score: what is mapped: alpha, or to compare with, a norm of the weight, which then stands in
            alpha's place everywhere.
        compat: "published" reproduces the published code's deviations; None follows the paper.
        spread: optimizer steps over which a refresh is solved; its decays hold from that many steps
            later. 0 solves all at once.
        minimum_range: where the largest alpha less the smallest is below this, all modules get the
            base decay; 0 is off.
        mean_preserving: rescale the decays of a refresh so that their mean over the modules is the
            base decay.
        ema: share of the former, smoothed alpha in the one that is mapped, in [0, 1); 0 is off.
        control: what to compare with instead: the map "inverted"; its decays "shuffled" over the
            modules; every module at their mean per parameter ("uniform_at_mean"); or "fixed_ratio",
            constants by name that no spectrum changes. None is AlphaDecay.
        seed: of the shuffle.
        cautious: a weight decays only where the optimizer's step does not take it away from 0
            (arXiv 2510.12402). While a step lasts, and on a CPU for good, it keeps a copy of
            the weights; it takes optimizers that shrink weights.
        towards: what weights decay towards: "zero", or "start", the weights that they are when
            AlphaDecay is made: w ← w − lr·λ·(w − w₀) (after L2-SP, arXiv 1802.01483), for
            fine-tuning. Make it once the pretrained weights are loaded and before a checkpoint is;
            it keeps a copy of the optimizer's weights, and takes optimizers that shrink weights.
        ratios: of fixed_ratio: shell pattern of weight names -> multiple of the base decay; the
            first that matches counts.
        drives: what alpha sets by module: its "decay"; its learning rate, "lr" (LLR, arXiv
            2605.22297, which refreshes every 100 steps); or "both". A rate multiplies the decay
            that shrinks weights too, as it would in a param group of the module's own. Map and
            control are those of the decay.
        lr_s1: learning rate of the smallest alpha, as a multiple of its group's.
        lr_s2: learning rate of the largest alpha, likewise.
        lr_ends: learning rate of embeddings and output head, likewise; LLR has it at lr_s2. All
            else without an alpha, norm gains and biases too, has its group's own.
        lr_ramp: steps over which a refresh's rates are reached, in a straight line from those
            before, which are the groups' own at first.
        lr_until: the last step whose refresh changes the rates; None goes on to the end. LLR's
            published settings end it after a fifth of the run.

    Raises:
        ValueError: a value outside its range; the message names it.
    """

    interval: int = 500
    s1: float = 0.67
    s2: float = 5.0
    tail: Tail = "hill"
    method: Method = "gram"
    assign: Assign = "linear"
    score: Score = "alpha"
    compat: Literal["published"] | None = None
    spread: int = 0
    minimum_range: float = 0.0
    mean_preserving: bool = False
    ema: float = 0.0
    control: Control | None = None
    seed: int = 0
    cautious: bool = False
    towards: Towards = "zero"
    ratios: Mapping[str, float] | None = None
    drives: Drives = "decay"
    lr_s1: float = 1.0
    lr_s2: float = 5.0
    lr_ends: float = 5.0
    lr_ramp: int = 50
    lr_until: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, must be one of "
                    f"{', '.join(map(repr, choices))}"
                )
        for name in ("interval", "spread", "seed", "lr_ramp"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} is {getattr(self, name)!r}, must be a whole number")
        if self.lr_until is not None and (type(self.lr_until) is not int or self.lr_until < 0):
            raise ValueError(f"lr_until is {self.lr_until!r}, must be a step, or None")
        if self.interval < 1:
            raise ValueError(f"interval is {self.interval}, must be at least 1 optimizer step")
        if not 0 <= self.s1 <= self.s2 < float("inf"):
            raise ValueError(f"s1 and s2 are {self.s1} and {self.s2}, must be 0 <= s1 <= s2")
        if not 0 <= self.lr_s1 <= self.lr_s2 < float("inf"):
            raise ValueError(
                f"lr_s1 and lr_s2 are {self.lr_s1} and {self.lr_s2}, must be 0 <= lr_s1 <= lr_s2"
            )
        if not 0 <= self.lr_ends < float("inf") or self.lr_ramp < 0:
            raise ValueError(
                f"lr_ends is {self.lr_ends} and lr_ramp {self.lr_ramp}, must be at least 0"
            )
        if not 0 <= self.minimum_range < float("inf"):
            raise ValueError(f"minimum_range is {self.minimum_range}, must be at least 0")
        if (self.control == "fixed_ratio") != bool(self.ratios):
            raise ValueError(
                f"control {self.control!r} with ratios {self.ratios!r}: ratios are what control "
                '"fixed_ratio" takes, and all'
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, must be in [0, 1)")
        if self.method == "farms" and (self.tail != "hill" or self.published):
            raise ValueError(
                'method "farms" fits tail "hill" by the paper\'s formula; leave tail and compat at '
                "their defaults with it"
            )
        if self.method == "moments" and self.tail != "hill":
            raise ValueError(
                f'method "moments" fits tail "hill" alone; tail {self.tail!r} takes method "gram" '
                'or "svd"'
            )
        if self.score != "alpha" and (
            self.method != "gram" or self.spread or self.published or self.assign != "linear"
        ):
            raise ValueError(
                f"score {self.score!r} is mapped linearly and at once; leave method, spread, "
                "compat and assign at their defaults with it"
            )
        if not 0 <= self.spread < self.interval:
            raise ValueError(
                f"spread is {self.spread}, must be at least 0 and below interval {self.interval}"
            )
        if self.spread and self.method != "gram":
            raise ValueError(
                'spread solves Gram matrices taken before; it needs method "gram", got '
                f"{self.method!r}"
            )

    @property
    def drives_rates(self) -> bool:
        """True where alpha sets learning rates."""
        return self.drives != "decay"

    @property
    def published(self) -> bool:
        """True in compat="published" mode."""
        return self.compat == "published"
