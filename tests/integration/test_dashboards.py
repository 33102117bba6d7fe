"""A run with every view of its figures on: they agree with metrics.jsonl, a resume goes on with the
same run, no secret gets out.
"""

from __future__ import annotations

import shutil

import pytest

from tests.integration.program import STEPS, metrics

CANARY = "5ec3e7c0ffee5ec3e7c0ffee5ec3e7c0ffee0042"
SWITCHES = (
    "--log.wandb",
    "true",
    "--log.tensorboard",
    "true",
    "--log.profile_from",
    "2",
    "--log.profile_steps",
    "2",
    "--log.every",
    "2",
)


def holders(folder, text):
    """Files that hold the text."""
    return [
        path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_dashboards_resume_and_keep_no_secret(workplace, monkeypatch):
    pytest.importorskip("wandb")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for name, value in (
        ("WANDB_API_KEY", CANARY),
        ("WANDB_MODE", "offline"),
        ("HF_TOKEN", CANARY),
        ("SOME_SECRET", CANARY),
    ):
        monkeypatch.setenv(name, value)
    folder = workplace.folder / "other-dashboards"
    outputs = []
    for _ in range(2):
        outcome = workplace.run(1, folder.name, *SWITCHES)
        assert outcome.code == 0, outcome.output
        outputs.append(outcome.output)
        shutil.rmtree(folder / f"checkpoints/step-{STEPS:08d}", ignore_errors=len(outputs) == 1)
    assert f"step 3 of {STEPS}" in outputs[1]

    training = metrics(folder, "train")
    assert [record["step"] for record in training] == [1, 2, 4, 6]
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=True)
    events.Reload()
    for key in ("loss", "mfu", "weight_norm"):
        shown = {event.step: event.value for event in events.Scalars(f"train/{key}")}
        # stored in float32
        assert shown == pytest.approx(
            {record["step"]: record[key] for record in training}, rel=1e-6
        )

    run_id = (folder / "wandb-run-id").read_text().strip()
    assert (
        len(list(folder.glob(f"wandb/offline-run-*-{run_id}")))
        == len(list(folder.glob("wandb/offline-run-*")))
        == 2
    )
    assert (folder / "trace-step-00000002.json").stat().st_size > 0

    assert len(holders(folder, "tiny")) > 3  # the search finds what is there
    assert holders(folder, CANARY) == [] and not any(CANARY in output for output in outputs)
