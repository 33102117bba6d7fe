"""A preparation in progress has one writer, and says how far it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from train.data.preparing.state import State
from train.data.preparing.work_folder import WorkFolder, documents_recorded
from train.errors import UserError
from train.system.lease import LeaseLost


def test_who_was_taken_over_records_nothing_more(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "corpus", print) as work:
        work.record()
        [lease] = work.folder.glob(".lease-*")
        facts = json.loads(lease.read_text()) | {"nonce": "other", "host": "n2"}
        lease.unlink()
        lease.with_name(".lease-00000002").write_text(json.dumps(facts))
        with pytest.raises(LeaseLost, match=r"the preparation of .*corpus was taken over.* on n2"):
            work.record()
    assert json.loads((work.folder / "state.json").read_text())["records"] == 1


def test_bytes_of_another_writer_are_noticed(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "corpus", print) as work:
        with (work.folder / "train.bin").open("ab") as file:
            file.write(b"theirs")
        with pytest.raises(UserError, match="has 6 bytes where this process wrote 0"):
            work.record()


def test_how_far_it_is(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    assert documents_recorded(final) == 0
    with WorkFolder(final, print) as work:
        work.state.counts["train"].documents = 7
        work.state.counts["validation"].documents = 1
        assert documents_recorded(final) == 0
        work.record()
    assert documents_recorded(final) == 8
    (work.folder / "state.json").write_text("{")
    assert documents_recorded(final) == 0


def test_rows_of_a_file_that_may_break_off_are_not_settled() -> None:
    state = State()
    state.counts["train"].documents = 4
    assert state.settled()["train"].documents == 4
    state.file_start = dataclasses.asdict(state)
    state.may_break = True
    state.counts["train"].documents = 9
    assert state.settled()["train"].documents == 4
    state.may_break = False
    assert state.settled()["train"].documents == 9


def test_a_state_of_an_earlier_version_reads_validation_after_training() -> None:
    new = State(phase=1)
    values = dataclasses.asdict(new)
    assert State.of(values) == new and new.validation_is_settled()
    del values["validation_first"], values["may_break"]
    old = State.of(values)
    assert not old.validation_first and not old.validation_is_settled()
    old.phase = 2
    assert old.validation_is_settled()
