"""Settings of the engine that shards the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least


@dataclass(frozen=True)
class EngineConfig:
    """What shards the model, and how far; ZeRO's own settings are deepspeed.config's.

    Args:
        kind: deepspeed (ZeRO 0 to 3) or fsdp2, which is torch's fully_shard; auto takes deepspeed.
        shard: ranks that share one copy of the weights under fsdp2, a divisor of all; fewer than
            all is HSDP, with copies; 0 shares it among all.
        reshard_after_forward: under fsdp2, let a layer's gathered weights go after its forward pass
            and gather them again in the backward, as ZeRO-3 does; without, they stay until then.
        cpu_offload: under fsdp2, keep weights and the optimizer in the host's memory; for CUDA.
    """

    kind: Literal["auto", "deepspeed", "fsdp2"] = "auto"
    shard: Annotated[int, at_least(0)] = 0
    reshard_after_forward: bool = True
    cpu_offload: bool = False
