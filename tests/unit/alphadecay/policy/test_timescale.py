"""The base decay of AdamW's timescale against numbers worked out by hand."""

from __future__ import annotations

import pytest

from alphadecay.policy.timescale import averaged_share, timescale_decay


@pytest.mark.parametrize(
    ("tokens_per_parameter", "share"),
    # exp(ln 1.084 - 0.527 ln TPP); at 1000 about 0.03, at 1 the whole run, as the paper plots
    [(20, 0.22355), (1000, 0.028448), (1.084 ** (1 / 0.527), 1.0), (0.5, 1.0)],
)
def test_the_share_of_the_run(tokens_per_parameter: float, share: float) -> None:
    assert averaged_share(tokens_per_parameter) == pytest.approx(share, rel=1e-4)


def test_one_pass_is_the_law_as_published() -> None:
    batch = 2**19
    tokens = 20 * 135e6
    decay = timescale_decay(2e-3, round(tokens / batch), 20)
    assert batch / (2e-3 * decay * tokens) == pytest.approx(0.22355, rel=1e-3)  # B / (lr·λ·D)


def test_it_grows_with_the_batch_and_falls_with_the_rate_and_the_tokens() -> None:
    base = timescale_decay(1e-3, 10_000, 20)
    assert timescale_decay(1e-3, 5_000, 20) == pytest.approx(2 * base)  # twice the batch
    assert timescale_decay(2e-3, 10_000, 20) == pytest.approx(base / 2)
    longer = timescale_decay(1e-3, 20_000, 40)
    assert longer == pytest.approx(base * 2 ** (0.527 - 1))


def test_text_that_is_read_again_lies_between_the_run_and_the_pass() -> None:
    run = timescale_decay(3e-3, 500, 0.61)
    a_pass = 9 * run
    assert timescale_decay(3e-3, 500, 0.61, passes=9) == pytest.approx((run * a_pass) ** 0.5)


def test_it_says_what_our_own_tuning_found() -> None:
    """train/experiments/evidence/tuning.md: of 1, 2 and 4 the best is 2, at nine passes."""
    assert timescale_decay(3e-3, 500, 512_000 / 840_000, passes=9) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("values", [(0, 10, 1, 1), (1, 0, 1, 1), (1, 10, 0, 1), (1, 10, 1, 0.5)])
def test_values_that_mean_nothing(values: tuple[float, int, float, float]) -> None:
    with pytest.raises(ValueError, match="above 0, passes at least 1"):
        timescale_decay(*values)
