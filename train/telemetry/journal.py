"""Takes a run's lines to metrics.jsonl and the dashboards, once its first step is over.

Until then they wait: a start that fails leaves an earlier run's lines as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphadecay.inspect.run.metrics import Record
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import METRICS
from train.telemetry.attempts import AttemptLog
from train.telemetry.metrics import MetricsWriter, check_metrics, make_record
from train.telemetry.sinks import Guarded, make_sinks


class Journal:
    """The lines of one run; rank 0 alone writes. Collective to make.

    Args:
        config: the run.
        folder: its output_dir.
        world: this rank.
        resume_step: the step gone on from; None starts afresh.
        attempt: what attempts.jsonl says of this start.
        say: shows a line to the person watching.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        world: World,
        resume_step: int | None,
        attempt: AttemptLog,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._world = world
        self._resume_step = resume_step
        self._attempt = attempt
        self._say = say
        self._waiting: list[Record] = []
        self._opened = False
        self._metrics: MetricsWriter | None = None
        self._sinks: list[Guarded] = []
        self.on_open: Callable[[], None] | None = None  # on every rank, when writing begins
        # On all ranks, so that a damaged file stops every rank, not one.
        world.run_on_main(lambda: check_metrics(folder / METRICS, resume_step))

    def open(self) -> None:
        """Begin to write, once every rank has come so far. Collective; once is enough."""
        if self._opened:
            return
        self._opened = True
        if self._world.size > 1:
            self._world.barrier()
        if self.on_open is not None:
            self.on_open()
        self._world.run_on_main(self._open)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> Record:
        """Write a line, or keep it until writing begins; return what it says. For rank 0."""
        record = make_record(kind, step, values)
        if self._metrics is None:
            self._waiting.append(record)
        else:
            self._put(self._metrics, record)
        return record

    def close(self) -> None:
        """End the file and the dashboards."""
        for sink in self._sinks:
            sink.close()
        if self._metrics is not None:
            self._metrics.close()
        self._attempt.close()

    def _open(self) -> None:
        self._metrics = MetricsWriter(self._folder / METRICS, self._resume_step, self._say)
        self._sinks = make_sinks(self._config, self._folder, self._resume_step, self._say)
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._put(self._metrics, record)
        self._attempt.open()

    def _put(self, metrics: MetricsWriter, record: Record) -> None:
        metrics.append(record)
        for sink in self._sinks:
            sink.log(record)
