"""The published figure's arithmetic, worked out by hand."""

import math

import pytest
import torch

from train.tasks.language_modelling.evaluation import Validation, published_loss


def rows(*figures):
    return torch.tensor(figures, dtype=torch.float64)


def test_batches_weigh_alike_and_one_too_many_is_counted():
    figures = rows((6.0, 2), (4.0, 2), (9.0, 9), (1.0, 1))
    # Batches of two rows: 10 / 4 and 10 / 10. Their sum over 2 + 1; per token it would be 20 / 14.
    assert published_loss(figures, 2) == pytest.approx((2.5 + 1.0) / 3, rel=1e-15)
    assert published_loss(figures, 512) == pytest.approx(20 / 14 / 2, rel=1e-15)


def test_a_short_last_batch_counts_as_one():
    assert published_loss(rows((2.0, 1), (4.0, 1), (9.0, 1)), 2) == pytest.approx(
        (3.0 + 9.0) / 3, rel=1e-15
    )


def test_the_bias_of_the_published_tables():
    """10 M tokens at 198 a row and 512 rows a batch are 99 batches: 31.56 in the tables is 32.7 per
    token.
    """
    loss = math.log(32.68)
    assert math.exp(published_loss(rows(*[(loss * 198, 198)] * (99 * 512)), 512)) == pytest.approx(
        31.56, abs=0.01
    )


def test_the_record_has_both():
    record = Validation(2.0, 1.0, 77).record()
    assert record["val_perplexity"] == math.exp(2.0) and record[
        "val_perplexity_published"
    ] == math.exp(1.0)
    assert (record["val_loss"], record["val_loss_published"], record["val_tokens"]) == (
        2.0,
        1.0,
        77,
    )
