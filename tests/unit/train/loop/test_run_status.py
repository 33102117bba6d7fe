"""state.json as scripts see it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.leases import held_by_another
from train.config.run_folder import STATUS
from train.loop import run_status
from train.loop.run_status import main, note_checkpoint, note_refusal, read_state, write_state
from train.system import patience


@pytest.mark.parametrize(
    ("state", "code"), [("running", 75), ("stopped", 75), ("finished", 0), ("failed", 1)]
)
def test_the_word_and_the_code(tmp_path, capsys, state, code):
    write_state(tmp_path, state, step=3, steps=9)
    assert main([str(tmp_path)]) == code
    assert capsys.readouterr().out == f"{state}\n"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"step": 1}'])
def test_what_cannot_be_read_is_unknown(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / STATUS).write_text(content)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "unknown\n"


def test_a_script_that_asks_once_gets_its_answer(tmp_path, monkeypatch, capsys):
    write_state(tmp_path, "stopped", step=3)
    pauses = []
    real = Path.read_text

    def read_text(path, **more):
        if len(pauses) < 2:
            raise OSError(116, "Stale file handle", str(path))
        return real(path, **more)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    assert read_state(tmp_path) == {}  # within a run nobody waits
    assert main([str(tmp_path)]) == 75
    said = capsys.readouterr()
    assert said.out == "stopped\n" and said.err.count("Stale file handle") == 2


def test_facts_stay_until_they_are_given_again(tmp_path, capsys):
    write_state(tmp_path, "running", step=3, steps=9, checkpoint="x/step-00000003")
    write_state(tmp_path, "stopped", reason="SIGTERM")
    expected = {
        "state": "stopped",
        "step": 3,
        "steps": 9,
        "reason": "SIGTERM",
        "checkpoint": "x/step-00000003",
        "prepared": 0,
    }
    assert json.loads((tmp_path / STATUS).read_text()) == expected == read_state(tmp_path)
    assert main([str(tmp_path), "reason"]) == 75 and capsys.readouterr().out == "SIGTERM\n"
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_usage(tmp_path, capsys):
    assert main(["--help"]) == 0 and main([]) == 2
    assert "OUTPUT_DIR" in capsys.readouterr().err


def test_as_a_program_it_needs_no_torch(tmp_path):
    write_state(tmp_path, "finished")
    code = (
        "import sys, train.loop.run_status; "
        "print(train.loop.run_status.main(sys.argv[1:]), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "finished\n0 False\n"


def test_a_file_system_that_fails_is_told_and_raises_nothing(tmp_path, monkeypatch, capsys):
    write_state(tmp_path, "running", step=3)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_status, "write_atomically", full)
    write_state(tmp_path, "finished", step=4)
    assert "does not say 'finished': No space left on device" in capsys.readouterr().err
    assert read_state(tmp_path)["state"] == "running"


@pytest.mark.parametrize(
    ("was", "held", "becomes"),
    [
        ("stopped", True, "failed"),
        ("stopped", False, "failed"),
        ("running", True, "failed"),  # killed, then refused
        ("running", False, "running"),  # another job's
        ("finished", True, "finished"),
        ("failed", True, "failed"),
    ],
)
def test_a_refused_start_is_no_longer_stopped(tmp_path, was, held, becomes):
    write_state(tmp_path, was, step=3, steps=9, reason="SIGTERM")
    note_refusal(tmp_path, "data was a, is b", held)
    state = read_state(tmp_path)
    assert (state["state"], state["step"]) == (becomes, 3)
    assert state["reason"] == ("data was a, is b" if becomes == "failed" else "SIGTERM")


def test_a_first_start_that_is_refused_has_failed(tmp_path):
    note_refusal(tmp_path, "no", held=False)
    assert read_state(tmp_path) == {}
    note_refusal(tmp_path, "no", held=True)
    assert read_state(tmp_path)["state"] == "failed"


def test_a_refused_start_says_nothing_of_a_run_that_another_job_has(tmp_path):
    write_state(tmp_path, "stopped", step=3, reason="SIGTERM")  # the other is about to go on
    with held_by_another(tmp_path):
        note_refusal(tmp_path, "no", held=False)
        assert read_state(tmp_path)["state"] == "stopped"
    note_refusal(tmp_path, "no", held=False)
    assert read_state(tmp_path)["state"] == "failed"


def test_a_checkpoint_is_noted_at_once_and_an_error_costs_nothing_else(tmp_path):
    write_state(tmp_path, "running", step=0, steps=9)
    note_checkpoint(tmp_path, 4, tmp_path / "step-00000004")
    state = read_state(tmp_path)
    assert (state["state"], state["step"], state["steps"]) == ("running", 4, 9)
    assert state["checkpoint"].endswith("step-00000004")
    note_checkpoint(tmp_path / "missing", 5, tmp_path / "step-00000005")
    assert read_state(tmp_path) == state
