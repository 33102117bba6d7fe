"""The base decay that a run asks for, by the timescale of AdamW.

With decoupled decay λ at learning rate η the weights are a moving average of AdamW's updates over
1 / (η·λ) steps (arXiv 2405.13698): no longer than the run, or its beginning is never forgotten, and
no shorter than about one pass over the data.
"""

from __future__ import annotations

# the fit of Power Lines (arXiv 2505.13738) to 111 M to 3.3 B parameters, one pass over the text
COEFFICIENT = 1.084
EXPONENT = -0.527


def averaged_share(tokens_per_parameter: float) -> float:
    """Return the share of a run that AdamW averages over at best, 1.084 · TPP^−0.527, at most 1.

    Args:
        tokens_per_parameter: TPP > 0, tokens of the whole run over parameters.
    """
    return min(1.0, COEFFICIENT * tokens_per_parameter**EXPONENT)


def timescale_decay(
    lr: float, steps: int, tokens_per_parameter: float, passes: float = 1.0
) -> float:
    """Return the base decay λ = √passes / (lr · steps · averaged_share).

    For one pass it is that of Power Lines, whose B / (η·λ·D) is 1 / (η·λ·steps). Text that is read
    again asks for far more (arXiv 2509.14786): measured in passes, as arXiv 2405.13698 does, the
    timescale would be this share of one pass, and λ `passes` times as large. No fit covers both;
    this takes their geometric mean.

    Args:
        lr: the peak learning rate.
        steps: optimizer steps of the run.
        tokens_per_parameter: tokens of the whole run over parameters.
        passes: over the text, at least 1.

    Raises:
        ValueError: a value that is not above 0, or less than one pass.
    """
    if min(lr, steps, tokens_per_parameter) <= 0 or passes < 1:
        raise ValueError(
            f"lr {lr}, steps {steps}, tokens per parameter {tokens_per_parameter}, passes {passes}:"
            " the first three are above 0, passes at least 1"
        )
    share = averaged_share(tokens_per_parameter)
    decay: float = passes**0.5 / (lr * steps * share)
    return decay
