"""Other rules for the weight decay: AWD (arXiv 2210.00094) and AdaDecay (arXiv 1907.08931).

Norms or gradients in, decays out.

Shapes: gradient [...] any shape, one layer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from alphadecay.policy.maps import SIGMOID_STEEPNESS, assign_weight_decay

AWD_SCALE = 100.0  # λ_awd over the run's weight decay; 50 for a ViT
AWD_MEMORY = 0.1  # share of the last step's value


def awd(
    weight_decay: float,
    gradient_norm: float,
    weight_norm: float,
    previous: float | None = None,
    *,
    scale: float = AWD_SCALE,
) -> float:
    """Adaptive weight decay, one value for all parameters, at every step (arXiv 2210.00094,
    smoothed as the published code does).

    λ_t = 0.1·λ_{t−1} + 0.9·scale·η·‖g‖/‖w‖, the norms taken over all parameters together.

    Args: weight_decay η ≥ 0; the two L2 norms; previous λ_{t−1}, None at the first step, which is
        then not smoothed.
    Returns: λ_t, finite and ≥ 0. Where a norm is not finite or ‖w‖ = 0 (an overflowed step):
        previous, or η at the first step.
    Errors: ValueError for a negative or non-finite η or scale.
    """
    if not (
        math.isfinite(weight_decay) and weight_decay >= 0 and math.isfinite(scale) and scale >= 0
    ):
        raise ValueError(f"weight_decay={weight_decay}, scale={scale}: need finite numbers ≥ 0")
    fallback = weight_decay if previous is None else previous
    if not (math.isfinite(gradient_norm) and math.isfinite(weight_norm) and weight_norm > 0):
        return fallback
    now = scale * weight_decay * (gradient_norm / weight_norm)
    if not math.isfinite(now):
        return fallback
    return now if previous is None else AWD_MEMORY * previous + (1 - AWD_MEMORY) * now


def adadecay_modules(
    gradient_norms: Mapping[str, float], layers: Mapping[str, str], weight_decay: float
) -> dict[str, float]:
    """AdaDecay (arXiv 1907.08931) by module, as published with AlphaDecay (arXiv 2506.14562):
    η·2/(1 + e^(−4z)), z the gradient norm standardised within its layer.

    Args: gradient_norms by module name, NaN or None where there is no gradient yet; layers names
        each module's layer; η ≥ 0.
    Returns: decay by module name, in the order given; η for a module without a gradient, or whose
        layer has equal norms.
    Errors: ValueError for a module without a layer, or a negative or non-finite η.
    """
    missing = [name for name in gradient_norms if name not in layers]
    if missing:
        raise ValueError(f"{missing[0]}: no layer given for it; name one in layers")
    members: dict[str, dict[str, float]] = {}
    for name, norm in gradient_norms.items():
        members.setdefault(layers[name], {})[name] = norm
    decays = dict.fromkeys(gradient_norms, float(weight_decay))
    for norms in members.values():
        decays.update(assign_weight_decay(norms, weight_decay, method="sigmoid"))
    return decays


def adadecay_parameters(
    gradient: Tensor,
    weight_decay: float,
    *,
    steepness: float = SIGMOID_STEEPNESS,
    moments: tuple[float, float] | None = None,
) -> Tensor:
    """AdaDecay per parameter: λ_j = η·2/(1 + e^(−a·z_j)), z_j = (|g_j| − mean|g|)/std|g| over the
    layer (arXiv 1907.08931).

    Args: gradient of one layer, any shape, or a shard of it with the moments of the whole;
        weight_decay η ≥ 0; steepness a; moments: mean and standard deviation of |g| over the whole
        layer, taken from the gradient itself where not given.
    Returns: decay of each parameter, shape and device of the gradient, float32 (float64 for
        float64), in [0, 2η]; η everywhere while the gradient holds a NaN or Inf, or where all
        magnitudes are equal. No host sync.
    Errors: ValueError for a negative or non-finite η or steepness.
    """
    if not (
        math.isfinite(weight_decay)
        and weight_decay >= 0
        and math.isfinite(steepness)
        and steepness >= 0
    ):
        raise ValueError(
            f"weight_decay={weight_decay}, steepness={steepness}: need finite numbers ≥ 0"
        )
    work = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    magnitude = gradient.detach().abs().to(work)
    if moments is not None:
        mean_, deviation_ = moments
        if not (
            math.isfinite(mean_)
            and math.isfinite(deviation_)
            and deviation_ > torch.finfo(work).eps * mean_
        ):
            return torch.full_like(magnitude, weight_decay)
        z = magnitude.sub_(mean_).mul_(steepness).div_(deviation_)  # in place: abs() made it
        return z.sigmoid_().mul_(2 * weight_decay)
    if magnitude.numel() == 0:
        return magnitude
    # squares neither over- nor underflow; 0/0 and inf/inf become NaN below
    magnitude = magnitude / magnitude.amax()
    deviation, mean = torch.std_mean(magnitude, correction=0)
    z = (magnitude - mean) / deviation
    usable = torch.isfinite(deviation) & (deviation > torch.finfo(work).eps)
    return weight_decay * 2 * torch.sigmoid(steepness * torch.where(usable, z, 0.0))
