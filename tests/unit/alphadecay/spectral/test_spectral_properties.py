"""Properties that hold for any matrix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from alphadecay.policy import assign_weight_decay
from alphadecay.spectral import FIELDS, Status, estimate, pl_alpha_hill
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle, power_law

ODD = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3e38, -3e38, 1e20, 1e-24, math.nan, math.inf, -math.inf]
MODEST = settings(max_examples=60, deadline=None)
shapes = st.tuples(st.integers(8, 48), st.integers(8, 48))
seeds = st.integers(0, 10_000)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """A matrix with a spectrum of any shape, not deficient."""
    rows, columns = draw(shapes)
    seed = draw(seeds)
    if draw(st.booleans()):
        return gaussian(rows, columns, seed)
    return power_law(rows, columns, draw(st.floats(1.5, 6.0)), seed)


@st.composite
def broken(draw: st.DrawFn) -> Tensor:
    """A matrix with odd entries in odd places, of any floating dtype."""
    rows, columns = draw(st.tuples(st.integers(0, 20), st.integers(0, 20)))
    seed = draw(seeds)
    dtype = draw(st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64]))
    weight = gaussian(rows, columns, seed) * draw(st.sampled_from([0.0, 1e-40, 1.0, 1e30]))
    if weight.numel():
        for _ in range(draw(st.integers(0, 4))):
            row = draw(st.integers(0, rows - 1))
            column = draw(st.integers(0, columns - 1))
            target = draw(st.sampled_from(["entry", "row", "column", "all"]))
            where = {
                "entry": (row, column),
                "row": (row,),
                "column": (slice(None), column),
                "all": (slice(None),),
            }[target]
            weight[where] = draw(st.sampled_from(ODD))
    return weight.to(dtype)


@MODEST
@given(matrices(), st.integers(-60, 60))
def test_a_power_of_two_changes_only_the_unit(weight: Tensor, exponent: int) -> None:
    single = weight.float()
    ours = estimate(single).pack()
    scaled = estimate(single * 2.0**exponent).pack()
    assert scaled[0].item() == pytest.approx(ours[0].item(), rel=1e-5)
    assert scaled[1].item() == pytest.approx(ours[1].item() * 4.0**exponent, rel=1e-3)
    assert torch.equal(ours[[2, 4, 5]], scaled[[2, 4, 5]])


@MODEST
@given(matrices(), st.floats(1e-20, 1e15))
def test_scale(weight: Tensor, scale: float) -> None:
    assert pl_alpha_hill(weight * scale) == pytest.approx(pl_alpha_hill(weight), rel=1e-4)


@MODEST
@given(matrices())
def test_transpose(weight: Tensor) -> None:
    ours, transposed = (estimate(w, precision=torch.float64)[0].item() for w in (weight, weight.mT))
    assert transposed == pytest.approx(ours, rel=1e-9)
    assert pl_alpha_hill(weight.mT.float()) == pytest.approx(
        pl_alpha_hill(weight.float()), rel=1e-4
    )


@MODEST
@given(matrices(), seeds)
def test_rotation(weight: Tensor, seed: int) -> None:
    left, right = (torch.linalg.qr(gaussian(size, size, seed + 1)).Q for size in weight.shape)
    assert pl_alpha_hill(left @ weight @ right) == pytest.approx(pl_alpha_hill(weight), rel=1e-4)


@MODEST
@given(matrices())
def test_float32_or_its_escalation_is_right(weight: Tensor) -> None:
    assert pl_alpha_hill(weight.float()) == pytest.approx(oracle(weight.float()), rel=1e-4)


@MODEST
@given(
    st.lists(broken(), min_size=1, max_size=4),
    st.sampled_from(["hill", "goodness_of_fit", "fix_finger"]),
    st.booleans(),
    st.booleans(),
)
def test_nothing_broken_moves_another_module(
    weights: list[Tensor], tail: str, published: bool, svd: bool
) -> None:
    method = "svd" if svd else "gram"
    rows = [
        estimate(weight, tail=tail, method=method, published=published, precision=torch.float64)
        .pack()
        .tolist()
        for weight in weights
    ]
    for row in rows:
        assert math.isfinite(row[0]) == (row[FIELDS.index("status")] == Status.OK)
    others = {"a": 2.0, "b": 3.0, "c": 3.5}
    bad = {f"bad {index}": row[0] for index, row in enumerate(rows)}
    for rule in ("linear", "sqrt", "log2", "sigmoid"):
        decays = assign_weight_decay({**bad, **others}, 0.1, method=rule)
        assert all(math.isfinite(decay) and decay >= 0 for decay in decays.values())
        if not any(math.isfinite(alpha) for alpha in bad.values()):
            assert {name: decays[name] for name in others} == assign_weight_decay(
                others, 0.1, method=rule
            )


@MODEST
@given(broken())
def test_float32_never_crashes(weight: Tensor) -> None:
    row = estimate(weight).pack().tolist()
    assert math.isfinite(row[0]) == (row[FIELDS.index("status")] == Status.OK)
    assert row[FIELDS.index("escalate")] in (0.0, 1.0)
    if min(weight.shape) >= 2:
        row = estimate(weight, method="farms").pack().tolist()
        assert math.isfinite(row[0]) == (row[FIELDS.index("status")] == Status.OK)


@MODEST
@given(st.lists(matrices(), min_size=1, max_size=3))
def test_a_stack_is_its_members(weights: list[Tensor]) -> None:
    stack = torch.stack([weights[0].float() * (index + 1) for index in range(len(weights))])
    stack[-1] += 0.1
    assume(stack.isfinite().all())
    alone = torch.stack([estimate(one).pack() for one in stack])
    assert torch.allclose(estimate(stack).pack(), alone, rtol=1e-4, equal_nan=True)
