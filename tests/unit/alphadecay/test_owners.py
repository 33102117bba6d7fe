"""Owner ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphadecay.owners import module_cost, plan_owners

SHAPES = st.dictionaries(
    st.text("abc", min_size=1, max_size=4),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    min_size=1,
)
LLAMA_1B = {
    f"{i}.{name}": shape
    for i in range(24)
    for name, shape in [
        *((x, (2048, 2048)) for x in "qkvo"),
        *((x, (5461, 2048)) for x in ("gate", "up")),
        ("down", (2048, 5461)),
    ]
}


@given(SHAPES, st.integers(1, 9))
def test_every_module_is_sent_once_to_its_owner(
    shapes: dict[str, tuple[int, int]], world_size: int
) -> None:
    plan = plan_owners(shapes, world_size)
    sent = [
        (name, rank) for row in plan.rounds for rank, name in enumerate(row) if name is not None
    ]
    assert sorted(sent) == sorted(plan.owners.items())
    assert set(plan.owners) == set(shapes)
    assert sum(plan.loads) == pytest.approx(sum(module_cost(shape) for shape in shapes.values()))


@given(SHAPES, st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_order_of_modules_is_irrelevant(
    shapes: dict[str, tuple[int, int]], world_size: int, random: object
) -> None:
    items = list(shapes.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert plan_owners(dict(items), world_size) == plan_owners(shapes, world_size)


@pytest.mark.parametrize("world_size", [2, 4, 8, 16, 64])
def test_balanced_within_the_longest_processing_time_bound(world_size: int) -> None:
    loads = plan_owners(LLAMA_1B, world_size).loads
    lower_bound = max(sum(loads) / world_size, max(map(module_cost, LLAMA_1B.values())))
    assert max(loads) <= (4 / 3 - 1 / (3 * world_size)) * lower_bound * 1.05


def test_a_world_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="world_size is 0"):
        plan_owners({"a": (2, 2)}, 0)


def test_thirty_six_thousand_experts_on_a_thousand_ranks() -> None:
    """Every rank has 35 or 36 modules of one cost; tests/bench/plan.py times it."""
    shapes = {
        f"layers.{layer}.experts.{part}[{expert}]": shape
        for layer in range(48)
        for part, shape in (("gate", (768, 2048)), ("up", (768, 2048)), ("down", (2048, 768)))
        for expert in range(250)
    }
    plan = plan_owners(shapes, 1024)
    assert len(plan.owners) == 36_000
    counts = [sum(name is not None for name in row) for row in plan.rounds]
    assert counts == [1024] * 35 + [36_000 - 35 * 1024]
    assert max(plan.loads) == pytest.approx(36 * module_cost((768, 2048)))
    assert plan.describe().splitlines()[1] == "  rank 0: 36 modules, 0.1% of the work"


def test_the_least_loaded_rank_is_next_and_the_first_of_equals() -> None:
    shapes = {"a": (64, 64), "b": (32, 32), "c": (32, 32), "d": (32, 32)}
    plan = plan_owners(shapes, 2)
    assert plan.owners == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert plan.rounds == (("a", "b"), (None, "c"), (None, "d"))
