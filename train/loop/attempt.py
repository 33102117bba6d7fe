"""Tries the sizes that were chosen for a run until its first step is over.

What holds: from the building of the model to the end of the first step, an out-of-memory on any
rank has all ranks start again with the next smaller size, where the program chose it; nothing of
the run has been written by then. Later, or where the user chose the sizes, the run fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from train.cluster.distributed import World
from train.cluster.restart import Restart
from train.config import TrainConfig
from train.engines.build import engine_kind
from train.errors import UserError
from train.system.out_of_memory import is_out_of_memory


class Attempt:
    """One try at a run.

    Args:
        config: of the run, with its sizes.
        world: this rank.
        restart: starts all ranks again; None where the sizes are the user's.
        chosen: what the program took and why; empty where the sizes are the user's.
    """

    def __init__(
        self, config: TrainConfig, world: World, restart: Restart | None, chosen: str = ""
    ) -> None:
        self.config = config
        self.world = world
        self.chosen = chosen
        self._restart = restart

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Start again where memory runs out within, or say what to lower.

        Raises:
            UserError: memory ran out, and nothing smaller is tried.
        """
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            sharding, further = _sharding(self.config)
            found = (
                f"rank {self.world.rank} is out of memory with a micro batch of "
                f"{self.config.run.micro_rows} and {sharding} ({_first_line(error)})"
            )
            if self._restart is not None:
                print(f"{found}; all ranks start again with less", flush=True)
                self._restart.leave()
            raise UserError(
                f"{found}; set --run.micro_batch lower, --model.activation_checkpointing true or "
                f"{further}; where it was a validation, --eval.micro_batch"
            ) from error

    def succeeded(self) -> None:
        """Note that the first step is over on every rank."""
        if self._restart is not None:
            self._restart.stop_watching()
            self._restart = None


def _sharding(config: TrainConfig) -> tuple[str, str]:
    """Return what shards the model, and what would shard it further."""
    if engine_kind(config) == "deepspeed":
        return config.deepspeed.config, "a further file of ds_configs as --deepspeed.config"
    return "FSDP2", "--engine.shard 0" if config.engine.shard else "more ranks"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
