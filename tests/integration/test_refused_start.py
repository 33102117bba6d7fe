"""A start that is refused says failed: a script that starts stopped runs again must not do so for
ever.
"""

from __future__ import annotations

import shutil

import pytest

from train.loop.run_status import read_state, write_state


@pytest.mark.parametrize(
    ("was", "arguments", "becomes"),
    [
        ("stopped", ("--model.num_layers", "3"), "failed"),  # another model than the checkpoint's
        ("stopped", ("--run.global_batch", "5", "--run.micro_batch", "2"), "failed"),
        ("finished", ("--model.num_layers", "3"), "finished"),
    ],
)
def test_what_is_said_of_a_run_whose_next_start_is_refused(
    workplace, finished, tmp_path, was, arguments, becomes
):
    folder = tmp_path / "run"
    shutil.copytree(finished("python"), folder)
    write_state(folder, was, step=6, reason="run.max_hours")
    outcome = workplace.run(1, str(folder), *arguments)
    assert outcome.code == 2, outcome.output
    state = read_state(folder)
    assert (state["state"], state["step"]) == (becomes, 6)
    if becomes == "failed":
        assert "was" in state["reason"] or "multiple of" in state["reason"]
