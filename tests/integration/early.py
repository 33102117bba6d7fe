"""The program with blocks of few rows and a preparation that writes down its progress often.

EARLY_HOLD=n makes the preparation wait at its n-th record for the file EARLY_IN/go. With EARLY_FAIL
it fails with these words once there is a file EARLY_IN/fail. Rank 0 and the preparation start from
this file alike. EARLY_IN/batches-RANK.txt gets a line a batch: its number and the hash of each row.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from train.data.preparing import ingest  # noqa: E402
from train.data.preparing.work_folder import WorkFolder  # noqa: E402
from train.data.sources import chunks  # noqa: E402
from train.errors import UserError  # noqa: E402

BLOCK_ROWS = 8
FOLDER = Path(os.environ["EARLY_IN"])


def hold_after(record):
    def held(work):
        record(work)
        if work.state.records < int(os.environ.get("EARLY_HOLD", "1000000")):
            return
        while not (FOLDER / "go").exists():
            time.sleep(0.02)
            if "EARLY_FAIL" in os.environ and (FOLDER / "fail").exists():
                raise UserError(os.environ["EARLY_FAIL"])

    return held


def logged(batch):
    def logging(reader, k):
        micro_batches = batch(reader, k)
        rows = [row for micro in micro_batches for row in micro.inputs["input_ids"]]
        hashes = [hashlib.sha256(row.numpy().tobytes()).hexdigest()[:16] for row in rows]
        with (FOLDER / f"batches-{os.environ.get('RANK', '0')}.txt").open("a") as file:
            file.write(f"{k} {' '.join(hashes)}\n")
        return micro_batches

    return logging


chunks.CHUNK_BYTES = 1  # a document a chunk
ingest.RECORD_BYTES = 1
WorkFolder.record = hold_after(WorkFolder.record)  # type: ignore[method-assign]

if __name__ == "__main__":
    from train import pretrain
    from train.data.loading import dataset
    from train.tasks.supply import Supply

    dataset.BLOCK_ROWS = BLOCK_ROWS
    Supply.batch = logged(Supply.batch)  # type: ignore[method-assign]
    pretrain._leave(pretrain.main())
