"""Which rank is waited for, from what the ranks wrote."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT
from train.errors import UserError
from train.loop.hanging.command import explain, main
from train.loop.hanging.verdict import judge, newest_folder, place, read_told

LOOP = [str(ROOT / "train/loop/trainer.py"), 200, "_one_step"]
TORCH = [str(ROOT / ".venv/lib/site-packages/torch/distributed/distributed_c10d.py"), 9, "x"]


def group(name, ranks, last, done=None, call="gloo:all_reduce"):
    """A group whose calls were made in lines equal to their numbers."""
    calls = [
        {"number": n, "name": call, "sizes": [[3]], "frames": [TORCH, [LOOP[0], n, "step"]]}
        for n in range(max(1, last - 2), last + 1)
    ]
    done = last - 1 if done is None else done
    return {"group": name, "ranks": ranks, "last": last, "done": done, "calls": calls}


def told(rank, *groups, size=3, frames=(TORCH, LOOP)):
    return {
        "rank": rank,
        "world_size": size,
        "host": f"node{rank}",
        "pid": 100 + rank,
        "time": 1.7e9,
        "step": 7,
        "part": "forward_backward",
        "still_seconds": 1770.2,
        "limit_seconds": 1800.0,
        "threads": [
            {"name": "reader", "main": False, "frames": []},
            {"name": "MainThread", "main": True, "frames": list(frames)},
        ],
        "groups": list(groups),
    }


def of(*ranks):
    return {one["rank"]: one for one in ranks}


def write(run, start, *ranks):
    folder = run / "hang" / start
    folder.mkdir(parents=True)
    for one in ranks:
        (folder / f"rank-{one['rank']}.json").write_text(json.dumps(one))
    return folder


ALL = [0, 1, 2]


def test_the_rank_that_has_not_entered_what_the_others_have():
    found = judge(
        of(
            told(0, group("0", ALL, 5)),
            told(1, group("0", ALL, 5)),
            told(2, group("0", ALL, 4, done=4)),
        )
    )
    assert (found.silent, found.missing) == ((), (2,))
    (wait,) = found.waits
    assert (wait.name, wait.arrived, wait.behind) == ("gloo:all_reduce", (0, 1), (2,))
    assert wait.place == "train/loop/trainer.py, line 5 (step)"


def test_ranks_that_run_ahead_are_asked_for_the_first_that_is_not_complete():
    found = judge(
        of(told(0, group("0", [0, 1], 6), size=2), told(1, group("0", [0, 1], 4), size=2))
    )
    assert found.missing == (1,) and found.waits[0].place.endswith("line 5 (step)")


def test_a_rank_that_waits_in_another_group_is_not_the_one():
    found = judge(
        of(
            told(0, group("a", [0, 1], 3)),
            told(1, group("a", [0, 1], 2, done=2), group("b", [1, 2], 8)),
            told(2, group("b", [1, 2], 7, done=7)),
        )
    )
    assert found.missing == (2,) and len(found.waits) == 2


def test_a_rank_that_wrote_nothing_is_the_one_where_the_others_are_in_one_collective():
    found = judge(
        of(
            told(0, group("0", ALL, 5), group("idle", ALL, 9, done=9)),
            told(2, group("0", ALL, 5), group("idle", ALL, 9, done=9)),
        )
    )
    assert (found.silent, found.missing) == ((1,), ())
    (wait,) = found.waits
    assert wait.behind == (1,) and wait.arrived == (0, 2)


def test_ranks_that_wait_for_each_other(tmp_path):
    ranks = (
        told(0, group("a", [0, 1], 3), group("b", [0, 1], 2, done=2), size=2),
        told(1, group("a", [0, 1], 2, done=2), group("b", [0, 1], 3), size=2),
    )
    assert judge(of(*ranks)).missing == ()
    write(tmp_path, "20260101-000000", *ranks)
    assert "wait for one another in different collectives: rank 0 in" in explain(tmp_path)


def test_nobody_is_missing_where_the_network_is_ill(tmp_path):
    write(tmp_path, "20260101-000000", *(told(rank, group("0", ALL, 5)) for rank in ALL))
    assert "No rank is missing" in explain(tmp_path)


def test_without_a_flight_recorder_the_stacks_are_there(tmp_path):
    write(tmp_path, "20260101-000000", told(0), told(1, frames=[LOOP]))
    said = explain(tmp_path, stacks=True)
    assert "Missing: rank 2 is not where the others are." in said and "It wrote nothing" in said
    assert f"  {LOOP[0]}:200 _one_step" in said.splitlines()


def test_the_words(tmp_path):
    write(
        tmp_path,
        "20260101-000000",
        told(0, group("0", ALL, 5)),
        told(1, group("0", ALL, 5)),
        told(
            2, group("0", ALL, 4), frames=[[str(ROOT / "train/data/loading/rows.py"), 88, "read"]]
        ),
    )
    lines = explain(tmp_path).splitlines()
    assert "3 of 3 ranks stood still for 1770 s" in lines[0] and "1800 s" in lines[0]
    assert lines[2:4] == [
        "Missing: rank 2 did not come to gloo:all_reduce, which ranks 0, 1 entered in "
        "train/loop/trainer.py, line 5 (step).",
        "  It is in train/data/loading/rows.py, line 88 (read), process 102 on node2.",
    ]
    assert (
        "rank 0: step 7, forward and backward; train/loop/trainer.py, line 200 (_one_step); "
        "process 100 on node0" in lines
    )


def test_the_last_start_counts_and_a_damaged_file_is_none(tmp_path, capsys):
    write(tmp_path, "20260101-000000", told(0), told(1), told(2))
    newest = write(tmp_path, "20260102-000000", told(0), told(2))
    (newest / "rank-1.json").write_text('{"rank": 1, "thr')
    (tmp_path / "hang/20260103-000000").mkdir()
    assert newest_folder(tmp_path) == newest and list(read_told(newest)) == [0, 2]
    assert main([str(tmp_path)]) == 0
    assert "Missing: rank 1" in capsys.readouterr().out


def test_a_run_that_never_hung(tmp_path, capsys):
    with pytest.raises(UserError, match="none of its ranks stood still"):
        explain(tmp_path)
    assert main([str(tmp_path)]) == 2 and "Traceback" not in capsys.readouterr().err


def test_a_place_of_the_project_is_named_before_a_librarys():
    assert place([TORCH, LOOP]) == "train/loop/trainer.py, line 200 (_one_step)"
    assert place([["/usr/lib/python3/threading.py", 3, "wait"]]).startswith("/usr/lib/python3")
    assert place([]) == "a place that is not known"
