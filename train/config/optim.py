"""The optimizer, and how its weight decay is shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What decay.method may be, besides uniform and none.
CONTROLS = ("inverted", "shuffled", "uniform_at_mean", "fixed_ratio")
NORMS = ("frobenius_norm", "spectral_norm")
SPECTRAL = ("alphadecay", "farms", *NORMS, *CONTROLS)  # an AlphaDecay does them
FROM_GRADIENTS = ("awd", "adadecay", "adadecay_parameters", "gradient_norm")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule.

    Args:
        name: adamw (decoupled decay) or adam (L2 added to the gradient).
        lr: peak learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: Adam's epsilon.
        weight_decay: the base decay, eta.
        fused: one kernel for the whole update, torch's, in place of a dozen; its figures differ in
            the last bits.
        grad_clip: largest global gradient norm; 0 clips nothing.
        schedule: cosine; linear; or wsd, which stays at lr and falls on a straight line at the end.
        warmup_steps: steps of linear warm-up from 0.
        min_lr_ratio: learning rate at the last step, as a share of lr.
        wsd_decay_share: share of all steps, the last ones, over which wsd falls, in (0, 1].
    """

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.1
    fused: bool = True
    grad_clip: float = 1.0
    schedule: Literal["cosine", "wsd", "linear"] = "cosine"
    warmup_steps: int = 1000
    min_lr_ratio: float = 0.1
    wsd_decay_share: float = 0.2


@dataclass(frozen=True)
class Ratio:
    """Modules of a fixed decay.

    Args:
        modules: shell pattern of weight names.
        ratio: their multiple of the base decay.
    """

    modules: str
    ratio: float


@dataclass(frozen=True)
class DecayConfig:
    """How weight decay is shared out over the modules.

    Args:
        method: alphadecay (per module, from its spectrum), uniform (the base decay everywhere) or
            none; awd (arXiv 2210.00094), adadecay (per module, as published with AlphaDecay) or
            adadecay_parameters (arXiv 1907.08931), from gradients; and to compare AlphaDecay with:
            frobenius_norm, spectral_norm or gradient_norm in alpha's place, farms (alpha free of
            the aspect ratio), inverted (the map upside down), shuffled (its decays dealt out at
            random), uniform_at_mean (its mean everywhere) and fixed_ratio (constants by module, see
            ratios).
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the heaviest tail, as a multiple of the base decay.
        s2: decay of the lightest tail, as a multiple of the base decay.
        assign: map from alpha to decay: linear, sqrt or log2.
        tail: how alpha is fitted; hill is the paper's.
        estimator: gram (eigenvalues of the smaller Gram matrix) or svd.
        spread: optimizer steps over which a refresh is solved, and after which its decays hold; 0
            does all at one step.
        compat: published reproduces the published code's deviations from the paper, norm gains
            decayed under every method among them; empty follows the paper, and leaves norm gains
            out under every method.
        awd_scale: of awd: its decay is this times the base decay times gradient norm over weight
            norm.
        seed: of shuffled.
        ratios: of fixed_ratio: a list of {modules, ratio}; the first whose pattern matches counts,
            and one must for every weight.
    """

    method: Literal[
        "alphadecay",
        "uniform",
        "none",
        "awd",
        "adadecay",
        "adadecay_parameters",
        "frobenius_norm",
        "spectral_norm",
        "gradient_norm",
        "farms",
        "inverted",
        "shuffled",
        "uniform_at_mean",
        "fixed_ratio",
    ] = "alphadecay"
    interval: int = 500
    s1: float = 0.67
    s2: float = 5.0
    assign: Literal["linear", "sqrt", "log2"] = "linear"
    tail: Literal["hill", "goodness_of_fit", "fix_finger"] = "hill"
    estimator: Literal["gram", "svd"] = "gram"
    spread: int = 0
    compat: Literal["", "published"] = ""
    awd_scale: float = 100.0
    seed: int = 0
    ratios: tuple[Ratio, ...] = ()
