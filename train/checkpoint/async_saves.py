"""Begins saves that don't stop the training: a copy of the state, and a process that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from train.checkpoint.host_room import MARGIN, HostRoom, room_here, why_no_room
from train.checkpoint.in_flight import SaveInFlight
from train.checkpoint.write import Target, gather_written
from train.checkpoint.writer import Writer
from train.cluster.distributed import World
from train.engines.protocol import Engine
from train.engines.snapshot import Snapshot
from train.system.lease import Lease
from train.system.shared_memory import Arena, can_share_memory


class AsyncSaves:
    """Copies states and has them written, one at a time. Collective to construct.

    Memory is taken and a process started at the first.

    Args:
        choice: checkpoint.asynchronous.
        engine: what is saved.
        world: this rank.
        run_identity: what checkpoints say of the run.
        lease: rank 0's right to write.
        say: takes a line for a person; used on rank 0.

    Attributes:
        wanted: whether the next save is to be so. Alike on all ranks.
    """

    def __init__(
        self,
        choice: bool | Literal["auto"],
        engine: Engine,
        world: World,
        run_identity: Mapping[str, Any],
        lease: Lease | None,
        say: Callable[[str], None],
    ) -> None:
        possible = choice is not False and engine.snapshots
        self.wanted = possible and all(world.gather(can_share_memory()))
        self._choice = choice
        self._engine = engine
        self._world = world
        self._run_identity = run_identity
        self._lease = lease
        self._say = say
        self._writer: Writer | None = None
        self._committing = ThreadPoolExecutor(1, "checkpoint-commit")

    def begin(
        self,
        target: Target,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None,
        after: Callable[[], None],
    ) -> SaveInFlight | None:
        """Copy the state and have it written. Collective.

        Args:
            target: where it goes.
            rank_state: what this rank alone gets back.
            after: what rank 0 does after the commit.

        Returns None where a host has too little memory; then no later save is wanted so.

        Raises:
            NotSaved: the state could not be taken or copied. On every rank.
        """
        snapshot = self._engine.snapshot_state(target.state, client_state)
        if rank_state is not None:
            snapshot.take(target.rank_state(self._world.rank), dict(rank_state))
        rooms = gather_written(self._world, target, snapshot.failure, self._room(snapshot))
        short = why_no_room(rooms, MARGIN if self._choice == "auto" else 0.0)
        if short:
            self.close()
            self._say(f"checkpoint.asynchronous: saves stop the training, for {short}")
            return None
        return SaveInFlight(
            self._world,
            target,
            self._own_writer().write(snapshot, target.temporary),
            snapshot.closing,
            self._run_identity,
            self._lease,
            after,
            self._committing,
        )

    def close(self) -> None:
        """End the process and give the memory back; a save after that is a plain one."""
        self.wanted = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._committing.shutdown()

    def _room(self, snapshot: Snapshot) -> HostRoom:
        has = self._writer.arena.capacity if self._writer is not None else 0
        return room_here(max(0, snapshot.size - has))

    def _own_writer(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(Arena(self._world.device, self._say))
        return self._writer
