"""Decides whether a rank on CPU cores keeps the memory that its steps free."""

from __future__ import annotations

from train.cluster.distributed import World
from train.planning.device import this_device
from train.system.malloc import keep_freed_memory

# Masters, gradients, moments and a snapshot are 28. What is kept lies in pieces, which take more,
# and activations and the system want theirs: two ranks with 33 each were too many.
_BYTES_A_PARAMETER = 40


def keep_memory_where_ample(parameters: int, world: World) -> bool:
    """Have malloc keep freed memory where this host has plenty; return whether it does. Collective.

    Args:
        parameters: elements of the whole model.
    """
    if world.device.type != "cpu":
        return False
    share = this_device(world).memory
    return parameters * _BYTES_A_PARAMETER < share and keep_freed_memory()
