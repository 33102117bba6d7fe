"""A run that trains while its corpus is prepared takes the batches of one whose corpus was before,
whatever ends the run or the preparation meanwhile.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.forked import wait_for_ranks
from tests.integration.program import figures, fork_ranks, recipe, write_corpus, write_recipe
from tests.waiting import until
from train.loop.run_status import read_state

EARLY = str(Path(__file__).with_name("early.py"))
RECORDS = 6  # documents of 60, at some seven rows each: past the first block and validation
STEPS = 12
FAILURE = "the source has failed, as this test wants it"


@dataclass
class Place:
    """A folder with a corpus, and the runs in it."""

    folder: Path
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, ranks: int, output: str, prepared: str, **more: str) -> list[BaseProcess]:
        notes = self.folder / output
        notes.mkdir(exist_ok=True)
        self.logs[output] = notes / "log"
        self.logs[output].touch()
        arguments = ["--config", str(self.folder / "tiny.yaml"), "--output_dir", str(notes / "run")]
        arguments += ["--data.directory", str(self.folder / prepared)]
        variables = {"EARLY_IN": str(notes), "EARLY_HOLD": str(RECORDS)} | more
        return fork_ranks(ranks, self.folder, self.logs[output], EARLY, *arguments, **variables)

    def until_it_waits(self, output: str, run: BaseProcess, times: int = 1) -> None:
        log = self.logs[output]

        def waits() -> bool:
            return log.read_text().count("waits for its rows") == times

        until(lambda: waits() or run.exitcode is not None, log.read_text)
        assert waits(), log.read_text()

    def go(self, output: str) -> None:
        (self.folder / output).mkdir(exist_ok=True)
        (self.folder / output / "go").touch()

    def log(self, output: str) -> str:
        return self.logs[output].read_text()

    def rows(self, output: str, ranks: int) -> dict[int, list[str]]:
        """The rows of each batch over all ranks, sorted; a batch that was taken twice is one."""
        found: dict[int, set[str]] = {}
        for rank in range(ranks):
            lines = (self.folder / output / f"batches-{rank}.txt").read_text().splitlines()
            for line in lines:
                number, *hashes = line.split()
                found.setdefault(int(number), set()).update(hashes)
        return {number: sorted(hashes) for number, hashes in found.items()}

    def state(self, output: str) -> dict[str, Any]:
        return dict(read_state(self.folder / output / "run"))


def one_file(corpus: str) -> str:
    """The rows of packed files in one that is not: it cannot break off, so all rows are settled."""
    rows = [gzip.decompress(Path(name).read_bytes()) for name in sorted(glob.glob(corpus))]
    path = Path(corpus).with_name("rows.jsonl")
    path.write_bytes(b"".join(rows))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("early")
    values = recipe(one_file(write_corpus(folder / "corpus")), folder / "unused")
    values["data"] |= {"start_early": True, "workers": 1}
    values["run"]["steps"] = STEPS
    values["eval"]["tokens"] = 64
    values["deepspeed"]["config"] = "ds_configs/zero1.json"
    write_recipe(folder / "tiny.yaml", values)
    return Place(folder)


@pytest.fixture(scope="module")
def reference(place: Place) -> str:
    """The run on a corpus that is there: the one after another has prepared it."""
    for output in ("first", "reference"):
        place.go(output)
        assert wait_for_ranks(place.start(1, output, "whole")) == 0, place.log(output)
    assert "waits" not in place.log("reference")
    return "reference"


def preparation_in(folder: Path) -> psutil.Process:
    """The living process that holds the preparation there; the one before may have been killed."""
    found: list[psutil.Process] = []

    def look() -> bool:
        for lease in folder.glob(".*.work/.lease-*"):
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                found.append(psutil.Process(json.loads(lease.read_text())["pid"]))
        return bool(found)

    until(look, "the preparation's process", 100)
    return found[0]


def expect_equal(place: Place, output: str, reference: str, ranks: int) -> None:
    rows = place.rows(output, ranks)
    assert sorted(rows) == list(range(STEPS))
    assert rows == place.rows(reference, 1)
    if ranks == 1:
        assert figures(place.folder / output / "run") == figures(place.folder / reference / "run")


def gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not any(process.is_running() for process in processes)


def test_a_killed_preparation_and_a_stopped_run_go_on(place, reference):
    [run] = place.start(1, "one", "one")
    place.until_it_waits("one", run)
    assert place.state("one")["state"] == "running"
    preparation_in(place.folder / "one").kill()
    assert wait_for_ranks([run]) == 2
    said = "needs rows that are not prepared, and no more are: the preparation's process was ended"
    assert f"{said} by signal 9" in place.log("one")
    state = place.state("one")
    assert state["state"] == "failed" and said in state["reason"]
    assert state["step"] > 0 and state["checkpoint"].endswith(f"step-{state['step']:08d}")

    [run] = place.start(1, "one", "one")
    place.until_it_waits("one", run, times=2)
    preparation = preparation_in(place.folder / "one")
    # all processes of a job get the signal, and the preparation waits for the run's word
    for process in (preparation.pid, run.pid):
        os.kill(process, signal.SIGTERM)
    assert wait_for_ranks([run]) == 75, place.log("one")
    until(gone([preparation]), lambda: place.log("one"))
    assert place.state("one")["reason"] == "SIGTERM"

    place.go("one")
    assert wait_for_ranks(place.start(1, "one", "one")) == 0, place.log("one")
    assert "Going on from" in place.log("one")
    expect_equal(place, "one", reference, 1)


def test_two_ranks_fail_alike_and_go_on(place, reference):
    ranks = place.start(2, "two", "two")
    place.until_it_waits("two", ranks[0])
    preparation = preparation_in(place.folder / "two")
    for rank in ranks:
        rank.kill()
    wait_for_ranks(ranks)
    until(gone([preparation]), lambda: place.log("two"))  # nobody had to end it

    ranks = place.start(2, "two", "two", EARLY_FAIL=FAILURE)
    place.until_it_waits("two", ranks[0], times=2)
    (place.folder / "two" / "fail").touch()
    assert wait_for_ranks(ranks) == 2
    assert [rank.exitcode for rank in ranks] == [2, 2]
    assert FAILURE in place.state("two")["reason"] and place.state("two")["step"] > 0
    place.go("two")
    assert wait_for_ranks(place.start(2, "two", "two")) == 0, place.log("two")
    expect_equal(place, "two", reference, 2)
