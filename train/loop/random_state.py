"""Takes and sets the random states of one rank.

A resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from train.system.device import uses_cuda


def seed_all(seed: int, rank: int) -> None:
    """Seed every global generator of this rank, each rank with its own stream.

    Python's and NumPy's would start from the system's entropy.
    """
    words = np.random.SeedSequence([seed, rank]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def random_state() -> dict[str, Any]:
    """Return the random states of Python, NumPy, torch and this rank's GPU.

    They are tensors, lists and numbers only, for torch's restricted loader.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = cast(
        tuple[str, np.ndarray, int, int, float], np.random.get_state(legacy=True)
    )
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if uses_cuda():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Take up what `random_state` returned; a GPU's state is left out where there is no GPU."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and uses_cuda():
        torch.cuda.set_rng_state(state["cuda"])
