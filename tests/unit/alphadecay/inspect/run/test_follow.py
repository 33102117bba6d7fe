"""metrics.jsonl is followed as it grows, is cut back by a resume, and begins anew."""

from __future__ import annotations

import json
from pathlib import Path

from alphadecay.inspect.run.follow import Follower, News
from train.telemetry.metrics import MetricsWriter


def write(path: Path, steps: range, resume_step: int | None = None) -> None:
    """Write training lines by the writer that a run has; it appends where told what to keep."""
    with MetricsWriter(path, resume_step) as writer:
        for step in steps:
            writer.write("train", step, {"loss": float(step)})


def steps(news: News) -> list[int]:
    return [record["step"] for record in news.records]


def test_what_was_appended_is_news_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path)
    assert follower.look() == News([])
    write(path, range(1, 4))
    assert steps(follower.look()) == [1, 2, 3]
    assert follower.look() == News([])
    with path.open("a") as file:
        file.write('{"kind": "train", "step": 4}\n')
    assert follower.look() == News([{"kind": "train", "step": 4}])
    assert [record["step"] for record in follower.records] == [1, 2, 3, 4]


def test_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path)
    line = json.dumps({"kind": "train", "step": 1, "text": "ü" * 300}).encode()
    path.write_bytes(line[:40])
    assert follower.look() == News([])
    path.write_bytes(line + b"\n" + line[:7])
    assert steps(follower.look()) == [1]
    assert follower.damaged == 0


def test_a_resume_cuts_lines_and_the_rest_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 9))
    follower = Follower(path)
    follower.look()
    write(path, range(6, 8), resume_step=5)
    news = follower.look()
    # steps 6 and 7 are there again, as they were
    assert (steps(news), news.gone, news.step) == ([], 1, 7)
    write(path, range(6, 8), resume_step=5)
    with path.open("a") as file:
        file.write('{"kind": "train", "step": 8, "loss": 1.5}\n')
    assert steps(follower.look()) == [8]


def test_what_a_resume_writes_anew_is_news(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 9))
    follower = Follower(path)
    follower.look()
    with MetricsWriter(path, 5) as writer:
        writer.write("train", 6, {"loss": 7.5})
    news = follower.look()
    assert (steps(news), news.gone, news.step) == ([6], 3, 5)
    assert [record["step"] for record in follower.records] == [1, 2, 3, 4, 5, 6]


def test_a_file_written_over_in_place_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    follower = Follower(path)
    follower.look()
    lines = [json.dumps({"kind": "train", "step": step, "loss": -1.0}) for step in range(1, 9)]
    with path.open("r+") as file:  # the same file, and longer than it was
        file.write("\n".join(lines) + "\n")
    news = follower.look()
    assert (steps(news), news.gone, news.step) == ([1, 2, 3, 4, 5, 6, 7, 8], 3, 0)


def test_a_new_beginning_and_a_file_that_went_away(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    follower = Follower(path)
    follower.look()
    write(path, range(1, 2))  # the old one is kept beside it
    news = follower.look()
    assert (news.gone, news.step, steps(news)) == (2, 1, [])
    path.unlink()
    assert follower.look() == News([], 1, 0)
    assert follower.look() == News([])


def test_a_damaged_line_is_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{nonsense\n[1]\n{"kind": 1, "step": 2}\n')
    follower = Follower(path)
    assert steps(follower.look()) == [1]
    assert follower.damaged == 3
