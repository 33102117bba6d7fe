"""A random state taken, written, read and set gives the same numbers again."""

import random

import numpy as np
import torch

from train.loop.random_state import random_state, seed_all, set_random_state


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.random(),
        np.random.standard_normal(),
        torch.rand(3).tolist(),
    )


def test_the_same_numbers_again(tmp_path):
    draw()  # a Gaussian is drawn in pairs: half of one is kept back
    torch.save(random_state(), tmp_path / "state.pt")
    expected = [draw() for _ in range(5)]
    assert [draw() for _ in range(5)] != expected
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw() for _ in range(5)] == expected


def test_seeds_decide_every_stream_and_ranks_differ():
    drawn = []
    for seed, rank in ((1, 0), (1, 0), (1, 1), (2, 0)):
        seed_all(seed, rank)
        drawn.append(draw())
    assert drawn[0] == drawn[1]
    for stream in zip(drawn[0], drawn[2], drawn[3], strict=True):
        assert len({str(value) for value in stream}) == 3
