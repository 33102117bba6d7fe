"""Settings that say how weight decay is shared out, and the methods that can do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from alphadecay.config import Assign, Drives, Tail
from train.config.ranges import at_least, greater_than, within

MethodName = Literal[
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
    "lawn",
    "hyperball",
]
Family = Literal["spectral", "gradients", "norms", "uniform", "none"]


@dataclass(frozen=True)
class DecayMethod:
    """A method of sharing out weight decay.

    Args:
        family: what carries it out, see train/loop/decay_methods.py.
        options: keywords that it fixes; the other ones come from the decay section.
    """

    family: Family
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scales_base(self) -> bool:
        """Return whether it multiplies optim.weight_decay module by module."""
        return self.family in ("spectral", "gradients")

    @property
    def decays(self) -> bool:
        """Return whether any weight decays."""
        return self.family not in ("norms", "none")


def _control(name: str) -> DecayMethod:
    return DecayMethod("spectral", {"control": name})


METHODS: Mapping[MethodName, DecayMethod] = MappingProxyType(
    {
        "alphadecay": DecayMethod("spectral"),
        "farms": DecayMethod("spectral", {"method": "farms"}),
        "frobenius_norm": DecayMethod("spectral", {"score": "frobenius_norm"}),
        "spectral_norm": DecayMethod("spectral", {"score": "spectral_norm"}),
        "inverted": _control("inverted"),
        "shuffled": _control("shuffled"),
        "uniform_at_mean": _control("uniform_at_mean"),
        "fixed_ratio": _control("fixed_ratio"),
        "awd": DecayMethod("gradients", {"rule": "awd"}),
        "adadecay": DecayMethod("gradients", {"rule": "adadecay"}),
        "adadecay_parameters": DecayMethod("gradients", {"rule": "adadecay_parameters"}),
        "gradient_norm": DecayMethod("gradients", {"rule": "gradient_norm"}),
        "lawn": DecayMethod("norms", {"rule": "lawn", "head": True}),
        "hyperball": DecayMethod("norms", {"rule": "hyperball"}),
        "uniform": DecayMethod("uniform"),
        "none": DecayMethod("none"),
    }
)
assert set(METHODS) == set(get_args(MethodName))


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
            none; awd (arXiv 2210.00094), adadecay (arXiv 1907.08931 per module, as published with
            AlphaDecay, arXiv 2506.14562) or adadecay_parameters (arXiv 1907.08931 per element),
            from gradients; and to compare AlphaDecay with: frobenius_norm, spectral_norm or
            gradient_norm in alpha's place, farms (alpha free of the aspect ratio), inverted (the
            map upside down), shuffled (its decays dealt out at random), uniform_at_mean (its mean
            everywhere) and fixed_ratio (constants by module, see ratios). lawn (arXiv 2108.05839)
            and hyperball (arXiv 2606.16899) hold the norms of the weight matrices instead, and
            nothing decays.
        base: given, by optim.weight_decay; or auto, which adamw's timescale asks for: from learning
            rate, steps, tokens a parameter (arXiv 2505.13738) and passes over the text (arXiv
            2405.13698, 2509.14786). --dry-run says what that is, and optim.weight_decay is not
            read. A run that goes on keeps what it was begun with.
        schedule: what becomes of the base decay over the run: constant; cosine, from
            optim.weight_decay to zero at the last step; or lr, in proportion to the learning rate,
            so that lr times decay goes as its square (AdamC, arXiv 2506.02285, which does so where
            a norm follows; here everything that decays does).
        cautious: a weight decays only where the optimizer's step does not take it away from zero
            (arXiv 2510.12402), whatever the method; with adamw or sgdw, and a copy of the float32
            weights while a step lasts, on a CPU for good.
        towards: what weights decay towards: zero, or start, the weights that the run begins with,
            such as those of model.pretrained (after L2-SP, arXiv 1802.01483), whatever the method;
            with adamw or sgdw, and a copy of the float32 weights.
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the heaviest tail, as a multiple of the base decay.
        s2: decay of the lightest tail, as a multiple of the base decay.
        assign: map from alpha to decay: linear, sqrt or log2.
        tail: how alpha is fitted; hill is the paper's.
        estimator: gram (eigenvalues of the smaller Gram matrix), svd, or moments (products instead
            of eigenvalues, for GPUs on which many weights share a shape; alpha within 0.001, with
            tail hill and spread 0).
        spread: optimizer steps over which a refresh is solved, and after which its decays hold; 0
            does all at one step.
        compat: published reproduces the published code's deviations from the paper, norm gains
            decayed under every method among them; empty follows the paper, and leaves norm gains
            out under every method.
        awd_scale: of awd: its decay is this times the base decay times gradient norm over weight
            norm.
        free_share: of lawn: share of all steps, the first ones, that train freely; then the norms
            of the weight matrices and of the head stay as they are, and gradients are projected.
        hyperball_scale: of hyperball: a step turns each weight matrix by this times the learning
            rate, its norm staying the first; the rest has the learning rate itself, and the paper
            gives matrices several times as much.
        seed: of shuffled.
        ratios: of fixed_ratio: a list of {modules, ratio}; the first whose pattern matches counts,
            and one must for every weight.
        drives: what alpha sets by module: decay; lr, the learning rate (LLR, arXiv 2605.22297, with
            interval 100), the decay then being the base one at that rate; or both. With alphadecay
            and the methods that compare with it (farms, norms of the weight, inverted, shuffled,
            uniform_at_mean, fixed_ratio).
        lr_s1: learning rate of the heaviest tail, as a multiple of the scheduled one.
        lr_s2: learning rate of the lightest tail, likewise.
        lr_ends: learning rate of embeddings and output head, likewise; LLR has it at lr_s2. Norm
            gains have the scheduled one.
        lr_ramp: optimizer steps over which a refresh's rates are reached, in a straight line.
        lr_until: share of the run after which the rates follow alpha no longer and stay; LLR's
            published settings have 0.2.
    """

    method: MethodName = "alphadecay"
    base: Literal["given", "auto"] = "given"
    schedule: Literal["constant", "cosine", "lr"] = "constant"
    cautious: bool = False
    towards: Literal["zero", "start"] = "zero"
    interval: Annotated[int, at_least(1)] = 500
    s1: Annotated[float, at_least(0)] = 0.67
    s2: float = 5.0
    assign: Assign = "linear"
    tail: Tail = "hill"
    estimator: Literal["gram", "svd", "moments"] = "gram"
    spread: Annotated[int, at_least(0)] = 0
    compat: Literal["", "published"] = ""
    awd_scale: Annotated[float, at_least(0)] = 100.0
    free_share: Annotated[float, within(0, 1, high_open=True)] = 0.1
    hyperball_scale: Annotated[float, greater_than(0)] = 1.0
    seed: int = 0
    ratios: tuple[Ratio, ...] = ()
    drives: Drives = "decay"
    lr_s1: Annotated[float, at_least(0)] = 1.0
    lr_s2: float = 5.0
    lr_ends: Annotated[float, at_least(0)] = 5.0
    lr_ramp: Annotated[int, at_least(0)] = 50
    lr_until: Annotated[float, within(0, 1, low_open=True)] = 1.0
