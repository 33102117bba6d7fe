"""Preparations as processes of their own, cut into so many chunks and records that there is
something to kill between them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import until
from train.config import DataConfig
from train.data.loading.memmap import TokenFile

ROOT = Path(__file__).resolve().parents[5]
FILES = (
    "train.bin",
    "train.ends",
    "validation.bin",
    "validation.ends",
    "meta.json",
    "quarantine.jsonl",
    "tokenizer.model",
)
HELD = "held"
GO = "go"
# At its `hold_at`-th record it makes the file `held` and waits for the file `go`.
PROGRAM = """
import os, sys, time
from pathlib import Path
from train.config import DataConfig, MixtureSource
from train.data.sources import chunks
from train.data.preparing import ingest
from train.data.preparing import lanes
from train.data.preparing import work_folder as work
from train.data.preparing import workers
from train.data.preparing.prepare import prepare

if __name__ == "__main__":
    chunks.CHUNK_BYTES = {chunk_bytes}
    ingest.RECORD_BYTES = {record_bytes}
    workers.WORTH_PROCESSES = 2
    workers.THREADS = 1
    lanes.WORTH_LANES = 1
    record = work.WorkFolder.record

    def hold(self):
        record(self)
        if self.state.records == {hold_at}:
            Path({held!r}).touch()
            while not Path({go!r}).exists():
                time.sleep(0.01)

    work.WorkFolder.record = hold
    prepare({config!r}, 320, lambda line: print(line, flush=True))
"""


def start(
    config: DataConfig,
    folder: Path,
    chunk_bytes: int = 4000,
    record_bytes: int = 1,
    hold_at: int = 0,
) -> subprocess.Popen[str]:
    """Start one; what it says comes on stdout. It waits after `hold_at` records."""
    # a file: worker processes load their parent's main module again
    script = folder / f"prepare-{time.monotonic_ns()}.py"
    script.write_text(
        PROGRAM.format(
            chunk_bytes=chunk_bytes,
            record_bytes=record_bytes,
            config=config,
            hold_at=hold_at,
            held=str(folder / HELD),
            go=str(folder / GO),
        )
    )
    command = [sys.executable, str(script)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_and_hold(config: DataConfig, folder: Path, records: int) -> subprocess.Popen[str]:
    """Start one and return when it waits, with exactly so many records written down."""
    (folder / HELD).unlink(missing_ok=True)
    process = start(config, folder, hold_at=records)
    until((folder / HELD).exists, f"record {records}", 120)
    return process


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for its end, which must be a good one; what it said."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a prepared folder; there are no others."""
    assert {path.name for path in folder.iterdir()} <= set(FILES)
    TokenFile(folder, "train"), TokenFile(folder, "validation")
    return {path.name: path.read_bytes() for path in folder.iterdir()}
