"""The program, held at a place of the test's choice: launchers start this file instead of
train/pretrain.py.

HELD_AT="phase:n" makes every rank wait at its n-th call of that phase until it has been asked to
stop (or for ever, where the test kills); rank 0 then makes the file HELD_IN/reached.
HELD_IN/batches-RANK.txt gets a line a batch: its number and a hash of its tokens. HELD_NAN=n makes
the gradients NaN from the n-th micro batch on. HELD_RUIN=n takes step n with an infinite learning
rate, which ruins the weights. HELD_RANK=r holds that rank alone. HELD_LIMIT=seconds has the ranks
say so once they have stood still for three quarters of that.
"""

from __future__ import annotations

import hashlib
import math
import os
import runpy
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from alphadecay import AlphaDecay  # noqa: E402
from train.checkpoint import saver  # noqa: E402
from train.data.loading.read_ahead import ReadAhead  # noqa: E402
from train.loop import trainer  # noqa: E402
from train.loop.hanging import watch  # noqa: E402
from train.loop.stopping import signals  # noqa: E402
from train.tasks.language_modelling import prepared, task  # noqa: E402

PHASES = {
    # between the forward and the backward pass of one micro batch
    "step": (trainer, "poison_nonfinite_loss"),
    "evaluation": (task, "evaluate"),
    "refresh": (AlphaDecay, "refresh"),
    "saving": (saver, "weights_are_finite"),
    "data": (ReadAhead, "batch"),
    "preparation": (prepared, "prepare_all"),
}
FOLDER = Path(os.environ["HELD_IN"])
RANK = os.environ.get("RANK", "0")
REQUESTS: list[signals.StopRequests] = []


def before(place, name, action):
    """`action(number of the call, arguments)` runs before each call of `place.name`."""
    original = getattr(place, name)
    calls = [0]

    def wrapped(*arguments, **keywords):
        calls[0] += 1
        changed = action(calls[0], arguments)
        return original(*(changed or arguments), **keywords)

    setattr(place, name, wrapped)


def hold(wanted):
    held = os.environ.get("HELD_RANK", RANK) == RANK

    def action(call, _arguments):
        if call == wanted and held:
            if os.environ.get("HELD_RANK", "0") == RANK:
                (FOLDER / "reached").touch()
            # there the signal itself interrupts
            while phase == "preparation" or not any(REQUESTS[0].flags()):
                time.sleep(0.05)

    return action


def log_batch(_call, arguments):
    """Note the batch that the loop takes, not those that are read ahead of it."""
    reader, k = arguments
    digest = hashlib.sha256(
        b"".join(
            tensor.numpy().tobytes()
            for micro in reader._read(k)
            for tensor in micro.inputs.values()
        )
    )
    with (FOLDER / f"batches-{RANK}.txt").open("a") as file:
        file.write(f"{k} {digest.hexdigest()}\n")


before(ReadAhead, "batch", log_batch)
before(signals.StopRequests, "install", lambda _call, arguments: REQUESTS.append(arguments[0]))
if "HELD_AT" in os.environ:
    phase, number = os.environ["HELD_AT"].split(":")
    before(*PHASES[phase], hold(int(number)))
if "HELD_NAN" in os.environ:
    first = int(os.environ["HELD_NAN"])
    before(
        trainer,
        "poison_nonfinite_loss",
        lambda call, arguments: (arguments[0] * math.nan,) if call >= first else None,
    )
if "HELD_RUIN" in os.environ:
    ruined = int(os.environ["HELD_RUIN"])
    learning_rate = trainer.learning_rate
    trainer.learning_rate = lambda optim, step, steps: (
        math.inf if step == ruined else learning_rate(optim, step, steps)
    )

if "HELD_LIMIT" in os.environ:
    limit = float(os.environ["HELD_LIMIT"])
    original_watch = watch.HangWatch
    watch.HangWatch = lambda folder, world, _limit, *more: original_watch(
        folder, world, limit, *more
    )

runpy.run_path(str(ROOT / "train" / "pretrain.py"), run_name="__main__")
