"""Takes a save that is being written beside the training to its commit, alike on every rank.

It has two stages: all ranks' files are written, then rank 0 commits. A rank's part of a stage ends
at a moment of its own; the ranks go on to the next once each has been told that all have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Any

from train.checkpoint.manifest import FileFacts, facts_of_files
from train.checkpoint.space import describe_failure
from train.checkpoint.write import Target, commit_and_point, gather_written, raise_on_all
from train.checkpoint.writer import Report
from train.cluster.distributed import World
from train.engines.snapshot import Closing, Place
from train.system.files import sync
from train.system.lease import Lease


class SaveInFlight:
    """One checkpoint on its way to the disk.

    Args:
        world: this rank.
        target: where it goes.
        written: is done once this rank's files are there.
        closing: what rank 0 writes last; None for nothing.
        run_identity: what its manifest says of the run.
        lease: rank 0's right to write there.
        after: what rank 0 does after the commit.
        committing: where it does so, beside the training.
    """

    def __init__(
        self,
        world: World,
        target: Target,
        written: Future[Report],
        closing: Closing | None,
        run_identity: Mapping[str, Any],
        lease: Lease | None,
        after: Callable[[], None],
        committing: Executor,
    ) -> None:
        self.target = target
        self._world = world
        self._written = written
        self._closing = closing
        self._run_identity = run_identity
        self._lease = lease
        self._after = after
        self._executor = committing
        self._committed: Future[str] | None = None
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the training went on."""
        return time.monotonic() - self._began

    def part_is_over(self) -> bool:
        """Return whether this rank has nothing to wait for in the present stage."""
        return self._part().done()

    def advance(self) -> Path | None:
        """Go on to the next stage, once all ranks' parts of the present one are over. Collective.

        Returns the checkpoint's folder after the last.

        Raises:
            NotSaved: it could not be written or committed. On every rank; nothing is left of it.
            UserError: another job has taken the folder over. On every rank.
        """
        wait([self._part()])
        if self._committed is None:
            self._begin_commit()
            return None
        committed = self._committed
        raise_on_all(self._world, self.target, self._world.run_on_main(committed.result))
        return self.target.final

    def _part(self) -> Future[Any]:
        return self._written if self._committed is None else self._committed

    def _begin_commit(self) -> None:
        report = self._written.result()
        failure = None if report.failure is None else (report.failure, self.target.state)
        every = gather_written(self._world, self.target, failure, (report.facts, report.places))
        self._committed = Future()
        if self._world.is_main:
            files = {name: facts for own, _ in every for name, facts in own.items()}
            root = self.target.temporary
            places = {root / name: lie for _, own in every for name, lie in own.items()}
            self._committed = self._executor.submit(self._commit, files, places)
        else:
            self._committed.set_result("")

    def _commit(self, files: FileFacts, places: Mapping[Path, list[Place]]) -> str:
        """Write what is still missing, and commit; return why that failed, or empty."""
        target = self.target
        try:
            last = [] if self._closing is None else [self._closing(places)]
            for path in last:
                sync(path)
            files |= facts_of_files(target.temporary, last)
        except OSError as error:
            return describe_failure(error, target.state)
        manifest = target.manifest(self._run_identity, files)
        failure = commit_and_point(target, manifest, self._lease)
        if not failure:
            self._after()
        return failure
