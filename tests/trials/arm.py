"""Says which program is killed: its engine, and how it saves."""

from __future__ import annotations

from dataclasses import dataclass

ENGINES = ("deepspeed", "fsdp2")


@dataclass(frozen=True)
class Arm:
    """What is killed.

    Args:
        engine: deepspeed or fsdp2.
        zero_stage: of DeepSpeed; None under FSDP2.
        asynchronous: whether saves go on beside the training.
    """

    engine: str
    zero_stage: int | None
    asynchronous: bool

    def arguments(self) -> list[str]:
        """Return what the program is told."""
        saves = ["--checkpoint.async", str(self.asynchronous).lower()]
        if self.zero_stage is None:
            return [*saves, "--engine.kind", self.engine]
        return [*saves, "--deepspeed.config", f"ds_configs/zero{self.zero_stage}.json"]
