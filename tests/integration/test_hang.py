"""A run of which one rank never comes: the folder says which, while it stands and after its end."""

from __future__ import annotations

import json
import os
import signal
import uuid

import pytest

from tests.conftest import ROOT
from tests.forked import wait_for_ranks
from tests.integration.program import fork_ranks, run
from tests.integration.stopping import HELD
from tests.waiting import PATIENCE, until

HELD_STEP = 2
LATE = 1


def start(workplace, tmp_path, *more, **environment):
    """Start two ranks, of which the second stays away from step 2; return them and their log."""
    log = tmp_path / f"{uuid.uuid4().hex}.log"
    log.touch()
    arguments = (*workplace.arguments(str(tmp_path / "run")), *more)
    held = {"HELD_IN": str(tmp_path), "HELD_AT": f"data:{HELD_STEP}", "HELD_RANK": str(LATE)}
    return fork_ranks(2, tmp_path, log, HELD, *arguments, **held, **environment), log


def assert_named(run_folder):
    said = run(1, ROOT, "-m", "train", "hang", str(run_folder))
    assert said.code == 0, said.output
    lines = said.output.splitlines()
    missing = next(line for line in lines if line.startswith("Missing"))
    # where the weights of the first layer are gathered, or the ranks' losses are added up
    assert missing.startswith(f"Missing: rank {LATE} did not come to gloo:"), said.output
    assert "which rank 0 entered in train/" in missing and ", line " in missing
    assert "tests/integration/held.py" in said.output and f"step {HELD_STEP}, data" in said.output


@pytest.mark.parametrize("engine", ["deepspeed", "fsdp2"])
def test_the_rank_that_stays_away_is_named(workplace, finished, tmp_path, engine):
    finished("deepspeed")  # the corpus is prepared
    ranks, log = start(workplace, tmp_path, "--engine.kind", engine, HELD_LIMIT="4")
    try:
        until(lambda: len(told(tmp_path / "run")) == 2, log.read_text)
        assert_named(tmp_path / "run")
    finally:
        for rank in ranks:
            os.kill(rank.pid, signal.SIGKILL)
            rank.join()


def told(folder):
    """The ranks that have written all they can."""
    found = [json.loads(path.read_text()) for path in folder.glob("hang/*/rank-*.json")]
    return [one["rank"] for one in found if one["groups"]]


@pytest.mark.slow
def test_it_is_named_after_the_timeout_has_ended_the_run(workplace, finished, tmp_path):
    finished("deepspeed")
    ranks, log = start(workplace, tmp_path, "--deepspeed.timeout_minutes", "0.4")
    assert wait_for_ranks(ranks, PATIENCE) != 0
    assert "Timed out" in log.read_text()
    assert sorted(told(tmp_path / "run")) == [0, 1]
    assert_named(tmp_path / "run")
