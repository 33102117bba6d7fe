"""20 steps in one go, and the same 20 with five interruptions: the same weights, moments, decays,
random states and batches.
"""

from __future__ import annotations

import signal

import pytest

from tests.integration.comparing import by_step
from tests.integration.program import metrics
from tests.integration.stopping import (
    batches,
    checkpoints,
    expect_stop,
    fingerprint,
    held,
    held_ranks,
)
from train.loop.run_status import read_state

STEPS = 20
# Decays are refreshed after the steps 4, 9, 14 and 19; a step has two micro batches.
SETTINGS = (
    "--run.steps",
    str(STEPS),
    "--decay.interval",
    "5",
    "--decay.schedule",
    "cosine",
    "--eval.every",
    "5",
    "--checkpoint.keep",
    "1",
)
GONE = "the launcher is gone"
STOPS = (  # launcher, held at, signal, saves every, stops at, reason
    # inside the accumulation window of step 3, just before a refresh
    ("deepspeed", "step:6", signal.SIGTERM, 0, 3, GONE),
    # the first refresh is that of the construction
    ("torchrun", "refresh:2", signal.SIGUSR1, 0, 4, GONE),
    ("deepspeed", "evaluation:1", signal.SIGUSR1, 0, 5, GONE),
    ("torchrun", "saving:1", signal.SIGTERM, 10, 10, "SIGTERM"),
)
ENGINES = {
    **{
        f"zero{stage}": ("--deepspeed.config", f"ds_configs/zero{stage}.json") for stage in range(4)
    },
    "fsdp2": ("--engine.kind", "fsdp2"),
}
IN_SUITE = "zero2"


@pytest.mark.parametrize(
    "engine",
    [pytest.param(name, marks=() if name == IN_SUITE else pytest.mark.slow) for name in ENGINES],
)
def test_five_interruptions_leave_no_trace(workplace, tmp_path, engine):
    data = ("--config", str(workplace.recipe), *SETTINGS, *ENGINES[engine])
    one = tmp_path / "one"
    many = tmp_path / "many"
    for folder in (one, many):
        folder.mkdir()
    whole = held_ranks(one, 2, *data, "--output_dir", "run")
    assert whole.code == 0, whole.output

    for launcher, at, number, every, step, reason in STOPS:
        outcome = held(
            many,
            launcher,
            *data,
            "--output_dir",
            "run",
            "--checkpoint.every",
            str(every),
            at=at,
            send=number,
        )
        expect_stop(many / "run", step, reason, outcome)
        assert checkpoints(many / "run") == [step], outcome.output
    # Killed inside the accumulation window of step 13, before the ranks could agree that the
    # checkpoint of step 12 is written: that of step 10 is the last that was committed.
    killed = held_ranks(
        many,
        2,
        *data,
        "--output_dir",
        "run",
        "--checkpoint.every",
        "2",
        at="step:6",
        send=signal.SIGKILL,
    )
    assert checkpoints(many / "run", killed=True) == [10], killed.output
    assert read_state(many / "run")["state"] == "running"
    last = held_ranks(many, 2, *data, "--output_dir", "run")
    assert last.code == 0 and f"step 10 of {STEPS}" in last.output, last.output

    assert read_state(many / "run")["state"] == read_state(one / "run")["state"] == "finished"
    name = f"run/checkpoints/step-{STEPS:08d}"
    assert fingerprint(many / name) == fingerprint(one / name)
    for rank in range(2):
        read = batches(many, rank)
        expected = batches(one, rank)
        assert [k for k, _ in expected] == list(range(STEPS)) and len(
            {digest for _, digest in expected}
        ) == STEPS
        assert [k for k, _ in read] == [
            *range(13),
            *range(10, STEPS),
        ]  # three steps were begun twice
        assert set(read) == set(expected)
    same_figures(many / "run", one / "run")


def same_figures(folder, whole):
    """Every line of metrics.jsonl but for times, of which there is one a step."""
    assert [record["step"] for record in metrics(folder, "train")] == list(range(1, STEPS + 1))
    for kind, keys in {
        "train": ("loss", "lr", "grad_norm", "tokens"),
        "validation": ("val_loss",),
        "refresh": ("alphas", "weight_decays"),
    }.items():
        assert by_step(folder, kind, *keys) == by_step(whole, kind, *keys), kind
    assert [record["step"] for record in metrics(folder, "validation")] == [0, 5, 10, 15, 20]
    assert [record["step"] for record in metrics(folder, "refresh")] == [0, 5, 10, 15, 20]
