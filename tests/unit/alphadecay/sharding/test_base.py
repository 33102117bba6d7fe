"""A failure is kept until the table is shared, and then raised once."""

from __future__ import annotations

import pytest
import torch

from alphadecay.sharding.replicated import Replicated


def test_a_failed_attempt_is_raised_where_the_table_is_shared() -> None:
    sharding = Replicated(torch.device("cpu"), None)
    table = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    assert torch.equal(sharding.share(table), table)
    with sharding.attempt("up.weight"):
        raise torch.OutOfMemoryError("no memory left")
    with sharding.attempt("down.weight"):
        raise ValueError("a consequence")
    message = "rank 0 could not measure up.weight: OutOfMemoryError: no memory left"
    with pytest.raises(RuntimeError, match=message) as caught:
        sharding.share(table)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert torch.equal(sharding.share(table), table)


def test_a_table_of_anything_but_numbers_is_no_failure() -> None:
    """The last row says who failed; the others may hold NaN."""
    sharding = Replicated(torch.device("cpu"), None)
    table = torch.full((3, 2), float("nan"), dtype=torch.float64)
    assert sharding.share(table).isnan().all()
